#include <algorithm>
#include <string>
#include <vector>

#include "engine/backend.h"

namespace refute {

Result<std::vector<std::int32_t>> Session::decode_greedy(std::int32_t token, std::size_t count) {
  if (count > capacity() - length()) {
    return Error{ErrorKind::kContextFull, "decode_greedy count",
                 "at most " + std::to_string(capacity() - length()) + " more tokens (capacity " +
                     std::to_string(capacity()) + ", held " + std::to_string(length()) + ")",
                 std::to_string(count)};
  }
  const std::size_t held = length();
  std::vector<std::int32_t> likeliest;
  for (std::size_t i = 0; i < count; ++i) {
    const Result<std::int32_t> next = forward_greedy(token);
    if (!next) {
      const Result<void> restored = rollback(held);
      CHECK(restored);
      return next.error();
    }
    token = *next;
    likeliest.push_back(token);
  }
  return likeliest;
}

Result<std::int32_t> Session::forward_greedy(std::int32_t token) {
  const auto logits = forward({&token, 1}, {});
  if (!logits) return logits.error();
  const auto row = logits->row(0);
  return static_cast<std::int32_t>(std::ranges::max_element(row) - row.begin());
}

}  // namespace refute
