#include "validators/version.h"

#include <cctype>
#include <cstddef>

#include "validators/scalar.h"

namespace refute {
namespace {

bool is_digit(char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; }

std::optional<std::int64_t> parse_part(std::string_view text) {
  if (text.empty() || !is_digit(text.front())) return std::nullopt;
  if (text.size() > 1 && text.front() == '0') return std::nullopt;
  return parse_integer(text);
}

}  // namespace

std::optional<Version> parse_version(std::string_view text) {
  Version version{};
  for (std::size_t i = 0; i < version.size(); ++i) {
    const bool is_last = i + 1 == version.size();
    const std::size_t dot = text.find('.');
    if ((dot == text.npos) != is_last) return std::nullopt;
    const auto part = parse_part(text.substr(0, dot));
    if (!part) return std::nullopt;
    version[i] = *part;
    if (!is_last) text.remove_prefix(dot + 1);
  }
  return version;
}

std::optional<FoundVersion> find_version(std::string_view text) {
  std::size_t offset = 0;
  while (offset < text.size()) {
    std::size_t end = offset;
    while (end < text.size() && (is_digit(text[end]) || text[end] == '.')) ++end;
    std::string_view run = text.substr(offset, end - offset);
    while (run.ends_with('.')) run.remove_suffix(1);
    if (parse_version(run)) return FoundVersion{offset, run};
    offset = end == offset ? offset + 1 : end;
  }
  return std::nullopt;
}

}  // namespace refute
