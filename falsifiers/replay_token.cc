#include "falsifiers/replay_token.h"

#include <fmt/format.h>

#include <charconv>
#include <system_error>

namespace refute {
namespace {

template <typename T>
bool parse_number(std::string_view text, int base, T* value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value, base);
  return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> fields;
  while (true) {
    const std::size_t end = text.find(separator);
    fields.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return fields;
    text.remove_prefix(end + 1);
  }
}

}  // namespace

std::string format_replay_token(const ReplayToken& token) {
  std::string text =
      fmt::format("{}@{:x}.{}", token.property, token.address.seed, token.address.size);
  for (const std::size_t step : token.address.shrink_path) text += fmt::format(".{}", step);
  return text;
}

std::optional<ReplayToken> parse_replay_token(std::string_view text) {
  const std::size_t slash = text.find('/');
  const std::size_t at = text.find('@');
  if (slash == std::string_view::npos || at == std::string_view::npos || slash == 0 || slash > at) {
    return std::nullopt;
  }
  ReplayToken token;
  token.property = std::string(text.substr(0, at));
  const auto fields = split(text.substr(at + 1), '.');
  if (fields.size() < 2 || !parse_number(fields[0], 16, &token.address.seed) ||
      !parse_number(fields[1], 10, &token.address.size) || token.address.size < 0) {
    return std::nullopt;
  }
  for (std::size_t i = 2; i < fields.size(); ++i) {
    if (!parse_number(fields[i], 10, &token.address.shrink_path.emplace_back())) {
      return std::nullopt;
    }
  }
  return token;
}

std::optional<std::string> falsifier_of_replay_token(std::string_view text) {
  if (!parse_replay_token(text)) return std::nullopt;
  return std::string(text.substr(0, text.find('/')));
}

}  // namespace refute
