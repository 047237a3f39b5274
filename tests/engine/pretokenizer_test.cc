#include "engine/pretokenizer.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "engine/unicode_categories.h"
#include "engine/utf8.h"
#include "tests/engine/golden_lines.h"

namespace refute {
namespace {

using Words = std::vector<std::string_view>;

TEST(UnicodeCategories, KnowsEachClass) {
  for (const char32_t letter :
       {U'a', U'Z', U'é', U'ß', U'Ж', U'א', U'中', U'あ', U'한', U'ʰ', U'𝒜'}) {
    EXPECT_EQ(character_class(letter), CharacterClass::kLetter) << std::hex << +letter;
  }
  for (const char32_t number : {U'0', U'9', U'½', U'²', U'Ⅷ', U'٣', U'〇', U'𝟘'}) {
    EXPECT_EQ(character_class(number), CharacterClass::kNumber) << std::hex << +number;
  }
  for (const char32_t other : {U'\0', U'!', U'\x1C', U'\x301', U'\x200B', U'\xFEFF', U'\x180E',
                               U'😀', U'\x378', U'\x10FFFF', kInvalidByte}) {
    EXPECT_EQ(character_class(other), CharacterClass::kOther) << std::hex << +other;
  }
}

TEST(UnicodeCategories, HasTheTwentyFiveSpaces) {
  std::vector<char32_t> spaces;
  for (char32_t code_point = 0; code_point <= 0x10FFFF; ++code_point) {
    if (character_class(code_point) == CharacterClass::kSpace) spaces.push_back(code_point);
  }
  const std::vector<char32_t> expected = {0x9,    0xA,    0xB,    0xC,    0xD,    0x20,   0x85,
                                          0xA0,   0x1680, 0x2000, 0x2001, 0x2002, 0x2003, 0x2004,
                                          0x2005, 0x2006, 0x2007, 0x2008, 0x2009, 0x200A, 0x2028,
                                          0x2029, 0x202F, 0x205F, 0x3000};
  EXPECT_EQ(spaces, expected);
}

TEST(Pretokenizer, IsFoundByItsNames) {
  EXPECT_EQ(parse_pretokenizer("qwen2"), Pretokenizer::kQwen2);
  for (const char* name : {"gpt2", "gpt-2", "default"}) {
    EXPECT_EQ(parse_pretokenizer(name), Pretokenizer::kGpt2) << name;
  }
  for (const char* name : {"", "llama-bpe", "Qwen2", "qwen2 "}) {
    EXPECT_EQ(parse_pretokenizer(name), std::nullopt) << name;
  }
}

TEST(Pretokenizer, SplitsAsTheRegularExpressionsDo) {
  const std::vector<std::vector<std::string>> lines = read_golden_lines("splits.tsv");
  ASSERT_GT(lines.size(), 200U);
  for (const std::vector<std::string>& line : lines) {
    ASSERT_EQ(line.size(), 3U);
    const std::optional<Pretokenizer> pretokenizer = parse_pretokenizer(line[0]);
    ASSERT_TRUE(pretokenizer) << line[0];
    const std::string text = unescape(line[1]);
    std::vector<std::int32_t> lengths;
    for (const std::string_view word : split_words(*pretokenizer, text)) {
      lengths.push_back(static_cast<std::int32_t>(word.size()));
    }
    EXPECT_EQ(lengths, parse_numbers(line[2])) << line[0] << " of " << line[1];
  }
}

TEST(Pretokenizer, QwenTakesOneDigitAndKeepsNewlinesWithSymbols) {
  EXPECT_EQ(split_words(Pretokenizer::kQwen2, "x=12;\n\n  y"),
            Words({"x", "=", "1", "2", ";\n\n", " ", " y"}));
  EXPECT_EQ(split_words(Pretokenizer::kGpt2, "x=12;\n\n  y"),
            Words({"x", "=", "12", ";", "\n\n ", " y"}));
}

TEST(Pretokenizer, OnlyQwenIgnoresCaseInContractions) {
  EXPECT_EQ(split_words(Pretokenizer::kQwen2, "IT'S"), Words({"IT", "'S"}));
  EXPECT_EQ(split_words(Pretokenizer::kGpt2, "IT'S"), Words({"IT", "'", "S"}));
  EXPECT_EQ(split_words(Pretokenizer::kQwen2, "'\u017Foon"), Words({"'\u017F", "oon"}));
}

TEST(Pretokenizer, EmptyTextHasNoWords) {
  EXPECT_TRUE(split_words(Pretokenizer::kQwen2, "").empty());
  EXPECT_TRUE(split_words(Pretokenizer::kGpt2, "").empty());
}

TEST(Pretokenizer, WordsAreTheTextForAnyBytes) {
  TestBytes random(2);
  constexpr std::string_view kCommon = "a '\n\r\ts1.\xE3\x80\x80\xC3\xA9\xFF";
  for (int round = 0; round < 500; ++round) {
    std::string text;
    for (int i = 0; i < 60; ++i) {
      const char byte = random.next();
      const auto index = static_cast<unsigned char>(random.next()) % (2 * kCommon.size());
      text += index < kCommon.size() ? kCommon[index] : byte;
    }
    for (const Pretokenizer pretokenizer : {Pretokenizer::kGpt2, Pretokenizer::kQwen2}) {
      std::string joined;
      for (const std::string_view word : split_words(pretokenizer, text)) {
        ASSERT_FALSE(word.empty());
        joined += word;
      }
      ASSERT_EQ(joined, text);
    }
  }
}

TEST(Pretokenizer, LongRunsTakeLinearTime) {
  // Quadratic time would take minutes.
  const std::size_t length = 400000;
  EXPECT_EQ(split_words(Pretokenizer::kQwen2, std::string(length, ' ')).size(), 1U);
  EXPECT_EQ(split_words(Pretokenizer::kQwen2, std::string(length, ' ') + "\n").size(), 1U);
  EXPECT_EQ(split_words(Pretokenizer::kQwen2, "\n" + std::string(length, ' ') + "x").size(), 3U);
  EXPECT_EQ(split_words(Pretokenizer::kQwen2, std::string(length, 'x')).size(), 1U);
  EXPECT_EQ(split_words(Pretokenizer::kQwen2, std::string(length, '7')).size(), length);
  EXPECT_EQ(split_words(Pretokenizer::kGpt2, std::string(length, '\n') + "x").size(), 3U);
}

}  // namespace
}  // namespace refute
