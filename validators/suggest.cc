#include "validators/suggest.h"

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <vector>

namespace refute {
namespace {

constexpr std::size_t kMaxListed = 12;
constexpr std::size_t kMaxEdits = 4;
// Longer ones are no misspelt names, and the table below is quadratic.
constexpr std::size_t kMaxNameLength = 80;

bool same_letter(char a, char b) {
  return std::tolower(static_cast<unsigned char>(a)) == std::tolower(static_cast<unsigned char>(b));
}

// Optimal string alignment distance. cost[i][j] is that of the first i and j letters.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<std::size_t>> cost(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i) cost[i][0] = i;
  for (std::size_t j = 0; j <= b.size(); ++j) cost[0][j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t change = same_letter(a[i - 1], b[j - 1]) ? 0 : 1;
      cost[i][j] = std::min({cost[i - 1][j] + 1, cost[i][j - 1] + 1, cost[i - 1][j - 1] + change});
      if (i > 1 && j > 1 && same_letter(a[i - 1], b[j - 2]) && same_letter(a[i - 2], b[j - 1])) {
        cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
      }
    }
  }
  return cost[a.size()][b.size()];
}

}  // namespace

std::optional<std::string_view> nearest_name(std::string_view name,
                                             std::span<const std::string_view> candidates) {
  if (name.size() > kMaxNameLength) return std::nullopt;
  std::optional<std::string_view> nearest;
  std::size_t fewest = std::clamp<std::size_t>(name.size() / 3, 1, kMaxEdits) + 1;
  for (const std::string_view candidate : candidates) {
    const std::size_t edits = edit_distance(name, candidate);
    if (edits < fewest) {
      fewest = edits;
      nearest = candidate;
    }
  }
  return nearest;
}

std::string suggest(std::string_view name, std::span<const std::string_view> candidates) {
  if (const auto nearest = nearest_name(name, candidates)) {
    return "did you mean `" + std::string(*nearest) + "`?";
  }
  if (candidates.empty()) return "";
  std::string text = "known:";
  for (std::size_t i = 0; i < std::min(candidates.size(), kMaxListed); ++i) {
    text += (i == 0 ? " " : ", ") + std::string(candidates[i]);
  }
  if (candidates.size() > kMaxListed) {
    text += " and " + std::to_string(candidates.size() - kMaxListed) + " more";
  }
  return text;
}

}  // namespace refute
