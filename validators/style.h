// Colour on terminals: only where the output is one and NO_COLOR is not set.
#pragma once

#include <string>
#include <string_view>

namespace refute {

enum class Paint { kPlain, kBold, kFaint, kGood, kBad, kWarning };

struct Style {
  bool color = false;
};

// For an open file descriptor: a terminal, NO_COLOR unset or empty, TERM not "dumb".
Style style_of(int descriptor);

// The text in that paint; unchanged without colour.
std::string paint(Style style, Paint paint, std::string_view text);

}  // namespace refute
