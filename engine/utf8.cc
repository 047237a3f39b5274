#include "engine/utf8.h"

#include <algorithm>

#include "kernels/check.h"

namespace refute {
namespace {

// Length of the sequence that `lead` starts, and the range of the byte after it: the table of
// well-formed sequences in the Unicode standard (table 3-7). Length 0: `lead` starts none.
struct SequenceRule {
  std::size_t length;
  unsigned char second_min;
  unsigned char second_max;
};

SequenceRule rule_of(unsigned char lead) {
  if (lead < 0x80) return {1, 0, 0};
  if (lead < 0xC2) return {0, 0, 0};
  if (lead < 0xE0) return {2, 0x80, 0xBF};
  if (lead == 0xE0) return {3, 0xA0, 0xBF};
  if (lead == 0xED) return {3, 0x80, 0x9F};
  if (lead < 0xF0) return {3, 0x80, 0xBF};
  if (lead == 0xF0) return {4, 0x90, 0xBF};
  if (lead < 0xF4) return {4, 0x80, 0xBF};
  if (lead == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

unsigned char byte_at(std::string_view text, std::size_t position) {
  return static_cast<unsigned char>(text[position]);
}

// Number of leading bytes of `text` that follow the rule of its first byte, at most rule.length.
std::size_t well_formed_length(std::string_view text, const SequenceRule& rule) {
  std::size_t length = 1;
  for (; length < rule.length && length < text.size(); ++length) {
    const unsigned char minimum = length == 1 ? rule.second_min : 0x80;
    const unsigned char maximum = length == 1 ? rule.second_max : 0xBF;
    if (byte_at(text, length) < minimum || byte_at(text, length) > maximum) break;
  }
  return length;
}

}  // namespace

CodePoint decode_code_point(std::string_view text, std::size_t position) {
  CHECK(position < text.size());
  const std::string_view rest = text.substr(position, 4);
  const SequenceRule rule = rule_of(byte_at(rest, 0));
  if (rule.length == 1) return {byte_at(rest, 0), 1};
  if (rule.length == 0 || well_formed_length(rest, rule) < rule.length) return {kInvalidByte, 1};
  // The lead byte carries 7 - length bits, each further byte six.
  char32_t value = byte_at(rest, 0) & ((1U << (7 - rule.length)) - 1U);
  for (std::size_t i = 1; i < rule.length; ++i) value = (value << 6) | (byte_at(rest, i) & 0x3FU);
  return {value, rule.length};
}

void append_utf8(char32_t code_point, std::string& text) {
  CHECK(code_point <= 0x10FFFF);
  const auto append = [&text](char32_t byte) {
    text.push_back(static_cast<char>(static_cast<unsigned char>(byte)));
  };
  if (code_point < 0x80) {
    append(code_point);
  } else if (code_point < 0x800) {
    append(0xC0 | (code_point >> 6));
    append(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    append(0xE0 | (code_point >> 12));
    append(0x80 | ((code_point >> 6) & 0x3F));
    append(0x80 | (code_point & 0x3F));
  } else {
    append(0xF0 | (code_point >> 18));
    append(0x80 | ((code_point >> 12) & 0x3F));
    append(0x80 | ((code_point >> 6) & 0x3F));
    append(0x80 | (code_point & 0x3F));
  }
}

std::size_t incomplete_suffix_length(std::string_view text) {
  for (std::size_t length = std::min<std::size_t>(3, text.size()); length > 0; --length) {
    const std::string_view suffix = text.substr(text.size() - length);
    const SequenceRule rule = rule_of(byte_at(suffix, 0));
    if (rule.length > length && well_formed_length(suffix, rule) == length) return length;
  }
  return 0;
}

}  // namespace refute
