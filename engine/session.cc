#include <algorithm>
#include <string>

#include "engine/backend.h"

namespace refute {

Result<std::vector<std::int32_t>> Session::decode_greedy(std::int32_t token, std::size_t count) {
  if (count > capacity() - length()) {
    return Error{ErrorKind::kContextFull, "decode_greedy count",
                 "at most " + std::to_string(capacity() - length()) + " more tokens (capacity " +
                     std::to_string(capacity()) + ", held " + std::to_string(length()) + ")",
                 std::to_string(count)};
  }
  std::vector<std::int32_t> tokens;
  tokens.reserve(count);
  while (tokens.size() < count) {
    const auto logits = forward({&token, 1}, ForwardOptions{});
    if (!logits) return logits.error();
    const auto row = logits->flat();
    token = static_cast<std::int32_t>(std::ranges::max_element(row) - row.begin());
    tokens.push_back(token);
  }
  return tokens;
}

}  // namespace refute
