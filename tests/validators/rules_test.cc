#include "validators/rules.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "tests/validators/stub_registry.h"
#include "validators/validate.h"

namespace refute {
namespace {

namespace fs = std::filesystem;

std::string read_text(const fs::path& path) {
  const Result<SourceFile> source = load_source(path.string());
  EXPECT_TRUE(source.has_value()) << path;
  return source ? source->text() : "";
}

std::string valid_contract() {
  return read_text(fs::path(REFUTE_TEST_DATA) / "contracts/valid/router-v1.yaml");
}

ValidateResult validate_text(const std::string& text) {
  return validate_sources({SourceFile("a.yaml", text)}, stub_context());
}

std::string render_all(const ValidateResult& result) {
  std::string text;
  for (const Diagnostic& found : result.diagnostics) text += render(found);
  return text;
}

// What the first line of a file of tests/data/contracts/invalid expects.
struct Expectation {
  std::string rule;
  Position at;
  std::string message;
};

Expectation read_expectation(const std::string& text) {
  static const std::regex kPattern("# EXPECT: (RF[0-9]+):([0-9]+):([0-9]+): ([^\n]+)\n");
  std::smatch match;
  if (!std::regex_search(text, match, kPattern, std::regex_constants::match_continuous)) return {};
  return {match[1], {std::stoul(match[2]), std::stoul(match[3])}, match[4]};
}

std::vector<fs::path> invalid_files() {
  std::vector<fs::path> files;
  for (const auto& entry :
       fs::directory_iterator(fs::path(REFUTE_TEST_DATA) / "contracts/invalid")) {
    files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

TEST(Rules, ReportEveryInvalidFixtureWhereItSays) {
  const std::vector<fs::path> files = invalid_files();
  ASSERT_GE(files.size(), 80U);
  for (const fs::path& path : files) {
    const std::string text = read_text(path);
    const Expectation expected = read_expectation(text);
    ASSERT_FALSE(expected.rule.empty()) << path << " lacks its EXPECT line";
    const ValidateResult result = validate_text(text);
    const bool found = std::any_of(
        result.diagnostics.begin(), result.diagnostics.end(), [&](const Diagnostic& diagnostic) {
          return diagnostic.rule == expected.rule && diagnostic.at == expected.at &&
                 diagnostic.message.find(expected.message) != std::string::npos;
        });
    EXPECT_TRUE(found) << path << " expects " << expected.rule << ":" << expected.at.line << ":"
                       << expected.at.column << ": " << expected.message << "\nfound\n"
                       << render_all(result);
    EXPECT_EQ(result.exit_code(), ExitCode::kRefutedOrInvalid) << path;
  }
}

TEST(Rules, HaveAFixtureForEveryErrorOfOneFile) {
  std::set<std::string> seen;
  for (const fs::path& path : invalid_files()) seen.insert(read_expectation(read_text(path)).rule);
  // These two are about paths and folders; validate_test.cc shows them.
  seen.insert({"RF001", "RF402"});
  // And these about the kill matrix; rules_kill_matrix_test.cc shows them.
  seen.insert({"RF414", "RF415", "RF416"});
  for (const RuleInfo& rule : rule_table()) {
    if (rule.severity != Severity::kError) continue;
    EXPECT_TRUE(seen.contains(std::string(rule.id))) << rule.id;
  }
}

TEST(Rules, TableIsSortedUniqueAndExplained) {
  std::set<std::string_view> names;
  std::string_view last;
  for (const RuleInfo& rule : rule_table()) {
    EXPECT_LT(last, rule.id);
    last = rule.id;
    EXPECT_TRUE(names.insert(rule.name).second) << rule.name;
    for (const std::string_view text : {rule.summary, rule.why, rule.bad, rule.good}) {
      EXPECT_FALSE(text.empty()) << rule.id;
    }
    EXPECT_EQ(find_rule(rule.id), find_rule(rule.name));
    const std::string explained = explain_rule(rule);
    EXPECT_NE(explained.find(rule.why), std::string::npos);
    EXPECT_EQ(explained.back(), '\n');
  }
  EXPECT_GE(names.size(), 40U);
  EXPECT_EQ(find_rule("RF000"), nullptr);
}

TEST(Rules, FindNothingInAValidContract) {
  const ValidateResult result = validate_text(valid_contract());
  EXPECT_TRUE(result.diagnostics.empty()) << render_all(result);
  EXPECT_EQ(result.exit_code(), ExitCode::kHeld);
}

TEST(Rules, SuggestTheNameThatWasMeant) {
  std::string text = valid_contract();
  text.replace(text.find("must_kill"), 9, "must_kil");
  const ValidateResult result = validate_text(text);
  EXPECT_NE(render_all(result).find("did you mean `must_kill`?"), std::string::npos);
}

// Lines of the valid contract, each with its key and indentation.
struct KeyLine {
  std::size_t index = 0;
  std::string key;
  std::size_t indent = 0;  // Of the key itself, past a `- `.
  bool opens_item = false;
};

std::vector<std::string> split_lines(const std::string& text) {
  std::vector<std::string> lines;
  std::size_t begin = 0;
  while (begin < text.size()) {
    const std::size_t end = text.find('\n', begin);
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

std::string join_lines(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

std::vector<KeyLine> key_lines(const std::vector<std::string>& lines) {
  static const std::regex kPattern("( *)(- )?([a-z_0-9]+):( .*)?");
  std::vector<KeyLine> keys;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    std::smatch match;
    if (!std::regex_match(lines[i], match, kPattern)) continue;
    const bool opens = match[2].matched;
    keys.push_back(
        {i, match[3], static_cast<std::size_t>(match[1].length()) + (opens ? 2 : 0), opens});
  }
  return keys;
}

// One past the last line that belongs to the key: deeper lines follow it.
std::size_t block_end(const std::vector<std::string>& lines, const KeyLine& key) {
  std::size_t end = key.index + 1;
  while (end < lines.size() && !lines[end].empty() &&
         lines[end].find_first_not_of(' ') > key.indent) {
    ++end;
  }
  return end;
}

void expect_error_with_place(const std::string& text, const std::string& what) {
  const ValidateResult result = validate_text(text);
  EXPECT_GT(result.errors, 0U) << what;
  EXPECT_EQ(result.exit_code(), ExitCode::kRefutedOrInvalid) << what;
  for (const Diagnostic& found : result.diagnostics) {
    EXPECT_GE(found.at.line, 1U) << what;
    EXPECT_GE(found.at.column, 1U) << what;
  }
}

TEST(ContractMutations, DroppingAnyRequiredKeyIsAnError) {
  const std::set<std::string> optional = {"kind",
                                          "status",
                                          "references",
                                          "depends_on",
                                          "shapes",
                                          "description",
                                          "after",
                                          "cases",
                                          "gates",
                                          "blind_to",
                                          "hidden_size",
                                          "num_experts_per_tok",
                                          "num_key_value_heads",
                                          "relative_l2",
                                          "cosine_worst_row"};
  const std::vector<std::string> lines = split_lines(valid_contract());
  std::size_t dropped = 0;
  for (const KeyLine& key : key_lines(lines)) {
    const bool is_top_description = key.key == "description" && key.indent == 0;
    const bool is_of_a_stage = lines[key.index] == "    backends: [cpu, cuda, wgpu]";
    if (is_of_a_stage || (optional.contains(key.key) && !is_top_description)) continue;
    std::vector<std::string> mutant = lines;
    const auto begin = mutant.begin() + static_cast<std::ptrdiff_t>(key.index);
    const auto end = mutant.begin() + static_cast<std::ptrdiff_t>(block_end(lines, key));
    if (key.opens_item) {
      // The next key opens the item instead.
      std::string& next = *end;
      next.replace(key.indent - 2, 2, "- ");
    }
    mutant.erase(begin, end);
    expect_error_with_place(join_lines(mutant), "without " + lines[key.index]);
    ++dropped;
  }
  EXPECT_GE(dropped, 35U);
}

TEST(ContractMutations, DuplicatingAnyKeyIsAnError) {
  const std::vector<std::string> lines = split_lines(valid_contract());
  std::size_t duplicated = 0;
  for (const KeyLine& key : key_lines(lines)) {
    std::vector<std::string> block(
        lines.begin() + static_cast<std::ptrdiff_t>(key.index),
        lines.begin() + static_cast<std::ptrdiff_t>(block_end(lines, key)));
    if (key.opens_item) block[0].replace(key.indent - 2, 2, "  ");
    std::vector<std::string> mutant = lines;
    mutant.insert(mutant.begin() + static_cast<std::ptrdiff_t>(block_end(lines, key)),
                  block.begin(), block.end());
    const std::string text = join_lines(mutant);
    expect_error_with_place(text, "twice " + lines[key.index]);
    EXPECT_NE(render_all(validate_text(text)).find("error[RF007]"), std::string::npos)
        << lines[key.index];
    ++duplicated;
  }
  EXPECT_GE(duplicated, 45U);
}

TEST(ContractMutations, NoGateTakesAnUnboundedOrMeaninglessBound) {
  for (const std::string gate :
       {"sum_error: 1e-6", "differing_bits: 0", "relative_l2: 1e-6", "cosine_worst_row: 0.999"}) {
    const std::string metric = gate.substr(0, gate.find(' ') + 1);
    for (const char* bound : {".inf", ".nan", "-.inf", "-1", "1e9", "\"abc\"", "abc", "", "1e999",
                              "true", "[1e-6]", "\"1e-9\""}) {
      std::string mutant = valid_contract();
      const std::size_t at = mutant.find(gate);
      ASSERT_NE(at, std::string::npos) << gate;
      mutant.replace(at, gate.size(), metric + bound);
      expect_error_with_place(mutant, metric + bound);
    }
  }
}

}  // namespace
}  // namespace refute
