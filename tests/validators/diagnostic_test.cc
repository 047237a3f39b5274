#include "validators/diagnostic.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "validators/suggest.h"

namespace refute {
namespace {

Diagnostic report(const std::string& text, Position at, std::size_t length,
                  const std::string& message, const std::string& help = "") {
  Findings findings;
  findings.report("RF409", SourceFile("dir/a.yaml", text), at, length, message, help);
  return std::move(findings).take_sorted().front();
}

TEST(Diagnostic, RendersPlaceExcerptCaretAndHelp) {
  EXPECT_EQ(render(report("id: a\ngate: 1e9\n", {2, 7}, 3, "too loose", "tighten it")),
            "dir/a.yaml:2:7: error[RF409]: too loose\n"
            "  |\n"
            "2 | gate: 1e9\n"
            "  |       ^^^\n"
            "  = help: tighten it\n");
}

TEST(Diagnostic, PutsTheCaretUnderACharacterBehindOthersOfSeveralBytes) {
  EXPECT_EQ(render(report("Σ≤é: 1e9\r\n", {1, 6}, 3, "m")),
            "dir/a.yaml:1:6: error[RF409]: m\n  |\n1 | Σ≤é: 1e9\n  |      ^^^\n");
}

TEST(Diagnostic, CutsLongLinesAroundTheCaret) {
  const std::string line = std::string(500, 'a') + "X" + std::string(500, 'b');
  const std::string text = render(report(line, {1, 501}, 400, "m"));
  EXPECT_NE(text.find("..." + std::string(50, 'a') + "X" + std::string(49, 'b') + "...\n"),
            std::string::npos);
  EXPECT_NE(text.find("\n  | " + std::string(53, ' ') + std::string(50, '^') + "\n"),
            std::string::npos)
      << text;
}

TEST(Diagnostic, LetsNoControlCharacterThrough) {
  const std::string text = render(report("a: \x1b[31m\xFF\tb\n", {1, 4}, 1, "key \x1b[2J\nnext"));
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_NE(text.find("key ?[2J next\n"), std::string::npos);
  EXPECT_NE(text.find("a: ?[31m? b\n"), std::string::npos);
}

TEST(Diagnostic, ColoursOnlyWhenAsked) {
  const Diagnostic found = report("a: 1\n", {1, 4}, 1, "m");
  EXPECT_EQ(render(found).find('\x1b'), std::string::npos);
  EXPECT_NE(render(found, Color::kAnsi).find("\x1b[1;31merror[RF409]\x1b[0m"), std::string::npos);
}

TEST(Diagnostic, OfAWholeFileHasNoExcerpt) {
  Findings findings;
  findings.report("RF001", SourceFile("missing", ""), {}, 1, "expected a file");
  EXPECT_EQ(render(std::move(findings).take_sorted().front()),
            "missing: error[RF001]: expected a file\n");
}

TEST(Diagnostic, SurvivesAPlacePastTheEndOfItsLine) {
  EXPECT_NE(render(report("ab\n", {1, 40}, 5, "m")).find("^\n"), std::string::npos);
  EXPECT_NE(render(report("ab\n", {9, 1}, 5, "m")).find("^\n"), std::string::npos);
}

TEST(Findings, AreSortedByPlace) {
  Findings findings;
  const SourceFile source("a.yaml", "x\ny\n");
  findings.report("RF409", source, {2, 1}, 1, "third");
  findings.report("RF409", source, {1, 5}, 1, "second");
  findings.report("RF110", source, {1, 5}, 1, "first");
  EXPECT_EQ(findings.errors_in("a.yaml"), 2U);
  EXPECT_EQ(findings.errors_in("b.yaml"), 0U);
  const std::vector<Diagnostic> sorted = std::move(findings).take_sorted();
  EXPECT_EQ(sorted[0].message, "first");
  EXPECT_EQ(sorted[0].severity, Severity::kWarning);
  EXPECT_EQ(sorted[2].message, "third");
}

TEST(Findings, AreJson) {
  const std::vector<Diagnostic> found = {report("a: \"x\"\n", {1, 4}, 3, "a \"quote\" and \\")};
  const nlohmann::json json = nlohmann::json::parse(to_json(found));
  ASSERT_EQ(json.size(), 1U);
  EXPECT_EQ(json[0]["rule"], "RF409");
  EXPECT_EQ(json[0]["name"], "loose-gate");
  EXPECT_EQ(json[0]["severity"], "error");
  EXPECT_EQ(json[0]["line"], 1);
  EXPECT_EQ(json[0]["column"], 4);
  EXPECT_EQ(json[0]["message"], "a \"quote\" and \\");
  EXPECT_EQ(nlohmann::json::parse(to_json({})).size(), 0U);
}

TEST(Suggest, FindsTheNearestName) {
  const std::vector<std::string_view> names = {"must_kill", "blind_to", "gates"};
  EXPECT_EQ(nearest_name("must_kil", names), "must_kill");
  EXPECT_EQ(nearest_name("mustk_ill", names), "must_kill");
  EXPECT_EQ(nearest_name("Gates", names), "gates");
  EXPECT_FALSE(nearest_name("acceptance", names));
  EXPECT_FALSE(nearest_name(std::string(1000, 'x'), names));
  EXPECT_EQ(suggest("gate", names), "did you mean `gates`?");
  EXPECT_EQ(suggest("zzz", names), "known: must_kill, blind_to, gates");
  EXPECT_EQ(suggest("zzz", {}), "");
}

}  // namespace
}  // namespace refute
