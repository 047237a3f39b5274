// UTF-8 one code point at a time, for text that may be invalid.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace refute {

// What decode_code_point reports for a byte that starts no valid sequence; no code point has it.
inline constexpr char32_t kInvalidByte = 0xFFFFFFFF;

struct CodePoint {
  char32_t value;      // kInvalidByte for a byte that starts no valid sequence.
  std::size_t length;  // Bytes taken, 1 to 4; 1 for an invalid byte.
};

// The code point at `position` (precondition: inside `text`). Strict: overlong forms, surrogates
// and values above U+10FFFF are invalid, and so is a sequence that `text` cuts short.
CodePoint decode_code_point(std::string_view text, std::size_t position);

// Precondition: `code_point` is at most U+10FFFF.
void append_utf8(char32_t code_point, std::string& text);

// Length of the longest suffix of `text` that more bytes could still complete to a valid sequence:
// 0 to 3 bytes.
std::size_t incomplete_suffix_length(std::string_view text);

}  // namespace refute
