// The Unicode properties that pre-tokenizers ask for, of every code point.
#pragma once

namespace refute {

enum class CharacterClass {
  kOther,   // Everything else, unassigned code points and kInvalidByte included.
  kLetter,  // General category L*: \p{L}.
  kNumber,  // General category N*: \p{N}.
  kSpace,   // Property White_Space: \s.
};

CharacterClass character_class(char32_t code_point);

}  // namespace refute
