// Replay tokens: short, URL-safe text that names one generated case.
//
//   <falsifier>/<property>@<seed>.<size>[.<shrink step>...]     seed in hexadecimal
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace refute {

// Where a generated case comes from.
struct CaseAddress {
  std::uint64_t seed = 0;
  int size = 0;                          // RapidCheck's size, [0, 100].
  std::vector<std::size_t> shrink_path;  // The index of the shrink taken at each step.
};

struct ReplayToken {
  std::string property;  // "<falsifier>/<property>"
  CaseAddress address;
};

std::string format_replay_token(const ReplayToken& token);
// Empty when the text is no token.
std::optional<ReplayToken> parse_replay_token(std::string_view text);

// The falsifier that a token belongs to; empty when the text is no token.
std::optional<std::string> falsifier_of_replay_token(std::string_view text);

}  // namespace refute
