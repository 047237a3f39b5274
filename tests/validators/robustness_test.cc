// Files that are cut off or damaged: a verdict with a place, never a crash or an exception.
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "tests/validators/stub_registry.h"
#include "validators/validate.h"

namespace refute {
namespace {

std::string valid_contract() {
  const Result<SourceFile> source =
      load_source(std::string(REFUTE_TEST_DATA) + "/contracts/valid/router-v1.yaml");
  EXPECT_TRUE(source.has_value());
  return source ? source->text() : "";
}

// Validates, renders everything, and holds every finding to have a place.
ValidateResult survive(const std::string& text, const std::string& what) {
  ValidateResult result = validate_sources({SourceFile("a.yaml", text)}, stub_context());
  for (const Diagnostic& found : result.diagnostics) {
    EXPECT_GE(found.at.line, 1U) << what;
    EXPECT_GE(found.at.column, 1U) << what;
    EXPECT_FALSE(render(found).empty());
  }
  EXPECT_FALSE(to_json(result.diagnostics).empty());
  return result;
}

TEST(DamagedContract, CutAnywhereIsAnErrorUnlessOnlyTheLastWordsAreLost) {
  const std::string text = valid_contract();
  // From here on the cut only shortens the last sentence.
  const std::size_t last_value = text.rfind("The precision") + 1;
  for (std::size_t length = 0; length < text.size(); ++length) {
    const ValidateResult result =
        survive(text.substr(0, length), "cut to " + std::to_string(length) + " bytes");
    if (length >= last_value) continue;
    EXPECT_GT(result.errors, 0U) << "cut to " << length << " bytes";
  }
}

TEST(DamagedContract, FlippedBytesNeverCrash) {
  const std::string text = valid_contract();
  std::size_t with_errors = 0;
  for (std::uint32_t seed = 0; seed < 2000; ++seed) {
    std::mt19937 random(seed);
    std::string damaged = text;
    const std::size_t flips = 1 + random() % 4;
    for (std::size_t i = 0; i < flips; ++i) {
      damaged[random() % damaged.size()] = static_cast<char>(random() % 256);
    }
    if (survive(damaged, "seed " + std::to_string(seed)).errors > 0) ++with_errors;
  }
  EXPECT_GT(with_errors, 1000U);
}

TEST(DamagedContract, ShuffledSyntaxNeverCrashes) {
  constexpr std::string_view kPieces[] = {"[",   "]",  "{",  "}",   ": ",  "- ", "\n",  "  ",
                                          "&a ", "*a", "? ", "---", "...", "\"", "'",   "|",
                                          ">",   "#",  "!x", "%",   "@",   "\t", ",",   "id",
                                          "~",   "1",  "é",  "|2",  "\\",  "<<", "\r\n"};
  for (std::uint32_t seed = 0; seed < 2000; ++seed) {
    std::mt19937 random(seed);
    std::string text;
    const std::size_t pieces = 1 + random() % 60;
    for (std::size_t i = 0; i < pieces; ++i) text += kPieces[random() % std::size(kPieces)];
    survive(text, "seed " + std::to_string(seed));
  }
}

}  // namespace
}  // namespace refute
