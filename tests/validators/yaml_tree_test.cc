#include "validators/yaml_tree.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <string>
#include <vector>

#include "validators/scalar.h"

namespace refute {
namespace {

struct Parsed {
  std::optional<YamlNode> root;
  std::vector<Diagnostic> found;
};

Parsed parse(const std::string& text) {
  Findings findings;
  auto root = parse_yaml(SourceFile("a.yaml", text), findings);
  return {std::move(root), std::move(findings).take_sorted()};
}

void expect_rejected(const std::string& text, std::string_view rule, Position at) {
  const Parsed parsed = parse(text);
  ASSERT_FALSE(parsed.found.empty()) << text;
  EXPECT_EQ(parsed.found.front().rule, rule) << text << "\n" << parsed.found.front().message;
  EXPECT_EQ(parsed.found.front().at.line, at.line) << text;
  EXPECT_EQ(parsed.found.front().at.column, at.column) << text;
}

TEST(YamlTree, GivesEveryNodeItsLineAndColumn) {
  const Parsed parsed = parse("a: 1\nb:\n  - \"x\"\n  - {c: y}\nd:\n");
  ASSERT_TRUE(parsed.root);
  EXPECT_TRUE(parsed.found.empty());
  const YamlNode& list = parsed.root->find("b")->value;
  ASSERT_EQ(list.items.size(), 2U);
  EXPECT_EQ(list.items[0].at, (Position{3, 5}));
  EXPECT_TRUE(list.items[0].quoted);
  EXPECT_EQ(list.items[0].length, 3U);
  EXPECT_EQ(list.items[1].find("c")->value.at, (Position{4, 9}));
  EXPECT_EQ(parsed.root->find("d")->value.kind, NodeKind::kNull);
  EXPECT_EQ(parsed.root->find("d")->value.at, (Position{5, 1}));
  EXPECT_EQ(parsed.root->find("e"), nullptr);
}

TEST(YamlTree, CountsColumnsInCodePoints) {
  const Parsed parsed = parse("é: [ü, z]\n");
  ASSERT_TRUE(parsed.root);
  EXPECT_EQ(parsed.root->entries[0].value.items[1].at, (Position{1, 8}));
}

TEST(YamlTree, SkipsAByteOrderMark) {
  const Parsed parsed = parse(
      "\xEF\xBB\xBF"
      "a: 1\n");
  ASSERT_TRUE(parsed.root);
  EXPECT_EQ(parsed.root->entries[0].value.at, (Position{1, 4}));
}

TEST(YamlTree, ResolvesAliasesToCopies) {
  const Parsed parsed = parse("a: &x {g: 1e-5}\nb: *x\nc: &s \"q\"\nd: *s\n");
  ASSERT_TRUE(parsed.root);
  EXPECT_EQ(parsed.root->find("b")->value.find("g")->value.text, "1e-5");
  EXPECT_EQ(parsed.root->find("d")->value.text, "q");
}

TEST(YamlTree, ReportsWhatIsNoYaml) {
  expect_rejected("a: [1, 2\n", "RF003", {2, 1});
  expect_rejected("a: \"abc\n", "RF003", {1, 4});
  expect_rejected("a: 'it''s\n", "RF003", {1, 4});
  expect_rejected("a: &x \"abc\n", "RF003", {1, 4});
  expect_rejected("a: b: c\n", "RF003", {1, 5});
  expect_rejected("a: 1\n]\n", "RF003", {2, 1});
  expect_rejected("key: v\n- item\n", "RF003", {2, 1});
  expect_rejected("a:\n\t b: 1\n", "RF003", {2, 1});
  expect_rejected("a: @x\n", "RF003", {1, 4});
  expect_rejected("a: \"\\q\"\n", "RF003", {1, 7});
}

TEST(YamlTree, ReportsBytesThatAreNoText) {
  expect_rejected("a: \xE9\n", "RF002", {1, 4});
  expect_rejected("a: 1\x04\nb: 2\n", "RF002", {1, 5});
  expect_rejected(std::string("a: 1\0b", 6), "RF002", {1, 5});
  expect_rejected("a: 1\rb: 2\n", "RF002", {1, 5});
  expect_rejected("a: \xED\xA0\x80\n", "RF002", {1, 4});    // A surrogate.
  expect_rejected("a: \xC0\x80\n", "RF002", {1, 4});        // An overlong zero.
  expect_rejected("é\n\xF4\x90\x80\x80", "RF002", {2, 1});  // Past U+10FFFF.
  expect_rejected("a: \xE2\x82", "RF002", {1, 4});          // Cut off.
}

TEST(YamlTree, ReportsFilesOfNothingOrOfSeveralDocuments) {
  expect_rejected("", "RF004", {1, 1});
  expect_rejected("# a comment\n\n", "RF004", {1, 1});
  expect_rejected("a: 1\n---\nb: 2\n", "RF005", {2, 1});
  expect_rejected("a: 1\n---\n", "RF005", {2, 1});
}

TEST(YamlTree, ReportsEveryDuplicateKeyAndKeepsTheFirst) {
  const Parsed parsed = parse("a: 1\na: 2\nb: {c: 1, c: 2}\n");
  ASSERT_TRUE(parsed.root);
  ASSERT_EQ(parsed.found.size(), 2U);
  EXPECT_EQ(parsed.found[0].rule, "RF007");
  EXPECT_EQ(parsed.found[0].at, (Position{2, 1}));
  EXPECT_EQ(parsed.found[1].at, (Position{3, 11}));
  EXPECT_EQ(parsed.root->find("a")->value.text, "1");
}

TEST(YamlTree, ReportsKeysThatAreNoText) {
  expect_rejected("? [1]\n: 2\n", "RF008", {1, 3});
  expect_rejected("~: 2\n", "RF008", {1, 1});
}

TEST(YamlTree, ReportsAliasesWithoutAnchorAndCycles) {
  expect_rejected("a: *y\n", "RF009", {1, 4});
  expect_rejected("a: &x [*x]\n", "RF009", {1, 8});
  expect_rejected("a: &x {b: {c: *x}}\n", "RF009", {1, 15});
}

TEST(YamlTree, ReportsTags) {
  expect_rejected("a: !!float 1\n", "RF011", {1, 4});
  expect_rejected("a: !foo {b: 1}\n", "RF011", {1, 4});
}

TEST(YamlTree, StopsAliasBombsBeforeTheyGrow) {
  std::string text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 40; ++i) {
    const std::string last = "*a" + std::to_string(i - 1);
    text += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + last;
    for (int j = 1; j < 10; ++j) text += ", " + last;
    text += "]\n";
  }
  const auto begin = std::chrono::steady_clock::now();
  const Parsed parsed = parse(text);
  EXPECT_FALSE(parsed.root);
  ASSERT_EQ(parsed.found.size(), 1U);
  EXPECT_EQ(parsed.found[0].rule, "RF010");
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
}

TEST(YamlTree, LimitsNestingAlsoThroughAliases) {
  expect_rejected("a: " + std::string(300, '[') + std::string(300, ']'), "RF006", {1, 203});
  std::string text = "a0: &a0 [x]\n";
  for (int i = 1; i < 300; ++i) {
    text += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [*a" + std::to_string(i - 1) +
            "]\n";
  }
  const Parsed parsed = parse(text);
  ASSERT_EQ(parsed.found.size(), 1U);
  EXPECT_EQ(parsed.found[0].rule, "RF006");
}

TEST(YamlTree, CanonicalTextSeesContentButNoLayout) {
  const Parsed flow = parse("a: {b: [1, \"x\"], c: }\n");
  const Parsed block = parse("# why\na:\n  b:\n    - 1\n    - x   # note\n  c: ~\n");
  ASSERT_TRUE(flow.root && block.root);
  EXPECT_EQ(canonical_text(*flow.root), R"({"a":{"b":["1","x"],"c":null}})");
  EXPECT_EQ(canonical_text(*flow.root), canonical_text(*block.root));
  EXPECT_NE(canonical_text(*parse("a: [x, y]\n").root), canonical_text(*parse("a: [y, x]\n").root));
  EXPECT_NE(canonical_text(*parse("a: null\n").root), canonical_text(*parse("a: 'null'\n").root));
  EXPECT_NE(canonical_text(*parse("a: 'x\",\"y'\n").root),
            canonical_text(*parse("a: ['x', 'y']\n").root));
}

TEST(Scalar, ReadsNumbersStrictly) {
  EXPECT_EQ(parse_number("1e-5"), 1e-5);
  EXPECT_EQ(parse_number("+.5E+2"), 50.0);
  EXPECT_EQ(parse_number("-3."), -3.0);
  EXPECT_TRUE(std::isinf(*parse_number(".inf")));
  EXPECT_LT(*parse_number("-.INF"), 0.0);
  EXPECT_TRUE(std::isnan(*parse_number(".NaN")));
  EXPECT_TRUE(std::isinf(*parse_number("1e999")));
  EXPECT_EQ(parse_number("1e-999"), 0.0);
  for (const char* text : {"", ".", "e5", "1e", "1e+", "0x10", "1_000", "inf", "nan", "1 ", " 1",
                           "1.2.3", "--1", "+-1", "1,5", "one"}) {
    EXPECT_FALSE(parse_number(text)) << text;
  }
}

TEST(Scalar, ReadsIntegersStrictly) {
  EXPECT_EQ(parse_integer("-12"), -12);
  EXPECT_EQ(parse_integer("+12"), 12);
  for (const char* text :
       {"", "+", "-", "+-1", "1.0", "1e3", "0x10", " 1", "9223372036854775808"}) {
    EXPECT_FALSE(parse_integer(text)) << text;
  }
}

}  // namespace
}  // namespace refute
