#include "validators/style.h"

#include <unistd.h>

#include <cstdlib>

namespace refute {
namespace {

std::string_view escape_of(Paint paint) {
  switch (paint) {
    case Paint::kPlain:
      return "";
    case Paint::kBold:
      return "\x1b[1m";
    case Paint::kFaint:
      return "\x1b[2m";
    case Paint::kGood:
      return "\x1b[32m";
    case Paint::kBad:
      return "\x1b[1;31m";
    case Paint::kWarning:
      return "\x1b[33m";
  }
  return "";
}

}  // namespace

Style style_of(int descriptor) {
  const char* no_color = std::getenv("NO_COLOR");
  if (no_color != nullptr && *no_color != '\0') return {};
  const char* terminal = std::getenv("TERM");
  if (terminal != nullptr && std::string_view(terminal) == "dumb") return {};
  return {.color = isatty(descriptor) == 1};
}

std::string paint(Style style, Paint paint, std::string_view text) {
  const std::string_view escape = escape_of(paint);
  if (!style.color || escape.empty() || text.empty()) return std::string(text);
  return std::string(escape) + std::string(text) + "\x1b[0m";
}

}  // namespace refute
