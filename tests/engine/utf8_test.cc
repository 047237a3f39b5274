#include "engine/utf8.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace refute {
namespace {

TEST(Utf8, EveryCodePointRoundTrips) {
  for (char32_t code_point = 0; code_point <= 0x10FFFF; ++code_point) {
    if (code_point >= 0xD800 && code_point <= 0xDFFF) continue;
    std::string text;
    append_utf8(code_point, text);
    const CodePoint decoded = decode_code_point(text, 0);
    ASSERT_EQ(decoded.value, code_point);
    ASSERT_EQ(decoded.length, text.size());
  }
}

TEST(Utf8, BytesOfInvalidSequencesAreInvalidOneByOne) {
  using namespace std::string_view_literals;
  const std::string_view invalid[] = {
      "\x80"sv,
      "\xBF"sv,
      "\xC0\xAF"sv,
      "\xC1\xBF"sv,
      "\xC3"sv,
      "\xC3("sv,
      "\xE0\x9F\xBF"sv,
      "\xE2\x82"sv,
      "\xE2\x82x"sv,
      "\xED\xA0\x80"sv,
      "\xED\xBF\xBF"sv,
      "\xF0\x8F\xBF\xBF"sv,
      "\xF0\x9F\x98"sv,
      "\xF0\x9F\x98x"sv,
      "\xF4\x90\x80\x80"sv,
      "\xF5\x80\x80\x80"sv,
      "\xF8\x88\x80"sv,
      "\xFE"sv,
      "\xFF"sv,
  };
  for (const std::string_view text : invalid) {
    const CodePoint decoded = decode_code_point(text, 0);
    EXPECT_EQ(decoded.value, kInvalidByte) << testing::PrintToString(text);
    EXPECT_EQ(decoded.length, 1U) << testing::PrintToString(text);
  }
}

TEST(Utf8, DecodesInsideAText) {
  const std::string text = "a\xE2\x82\xAC\xF0\x9F\x98\x80";
  EXPECT_EQ(decode_code_point(text, 0).value, U'a');
  EXPECT_EQ(decode_code_point(text, 1).value, 0x20ACU);
  EXPECT_EQ(decode_code_point(text, 2).value, kInvalidByte);
  EXPECT_EQ(decode_code_point(text, 4).value, 0x1F600U);
}

TEST(Utf8, IncompleteSuffixIsOnlyWhatMoreBytesCouldComplete) {
  EXPECT_EQ(incomplete_suffix_length(""), 0U);
  EXPECT_EQ(incomplete_suffix_length("abc"), 0U);
  EXPECT_EQ(incomplete_suffix_length("\xE2\x82\xAC"), 0U);
  EXPECT_EQ(incomplete_suffix_length("\xE2"), 1U);
  EXPECT_EQ(incomplete_suffix_length("a\xE2\x82"), 2U);
  EXPECT_EQ(incomplete_suffix_length("\xF0\x9F\x98"), 3U);
  EXPECT_EQ(incomplete_suffix_length("\xF0\x9F\x98\x80"), 0U);
  EXPECT_EQ(incomplete_suffix_length("\xE2\x82\xC3"), 1U);
  // These can never become valid.
  EXPECT_EQ(incomplete_suffix_length("\xC0"), 0U);
  EXPECT_EQ(incomplete_suffix_length("\xFF"), 0U);
  EXPECT_EQ(incomplete_suffix_length("\x82\x82"), 0U);
  EXPECT_EQ(incomplete_suffix_length("\xED\xA0"), 0U);
  EXPECT_EQ(incomplete_suffix_length("\xE0\x80"), 0U);
}

}  // namespace
}  // namespace refute
