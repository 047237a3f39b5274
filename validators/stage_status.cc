#include "validators/stage_status.h"

#include <array>
#include <cstddef>
#include <utility>

namespace refute {
namespace {

constexpr std::array<std::pair<std::string_view, StageStatus>, 12> kWords = {{
    {"PENDING", StageStatus::kPending},
    {"REFUTED", StageStatus::kRefuted},
    {"STALE", StageStatus::kStale},
    {"PARTIAL", StageStatus::kPartial},
    {"DISCHARGED", StageStatus::kDischarged},
    {"SHIPPED", StageStatus::kShipped},
    {"DRAFT", StageStatus::kPending},
    {"PROPOSED", StageStatus::kPending},
    {"PARTIALLY_DISCHARGED", StageStatus::kPartial},
    {"ALGORITHM_LEVEL_DISCHARGED", StageStatus::kPartial},
    {"ACTIVE_ALGORITHM_LEVEL", StageStatus::kPartial},
    {"ACTIVE_RUNTIME", StageStatus::kDischarged},
}};

constexpr auto kWordList = [] {
  std::array<std::string_view, kWords.size()> words;
  for (std::size_t i = 0; i < words.size(); ++i) words[i] = kWords[i].first;
  return words;
}();

}  // namespace

std::string_view stage_status_name(StageStatus status) {
  return kWords[static_cast<std::size_t>(status)].first;
}

int stage_status_rank(StageStatus status) {
  switch (status) {
    case StageStatus::kPending:
    case StageStatus::kRefuted:
    case StageStatus::kStale:
      return 0;
    case StageStatus::kPartial:
      return 1;
    case StageStatus::kDischarged:
      return 2;
    case StageStatus::kShipped:
      return 3;
  }
  return 0;
}

std::optional<StageStatus> parse_claimed_status(std::string_view word) {
  for (const auto& [name, status] : kWords) {
    if (name == word) return status;
  }
  return std::nullopt;
}

std::span<const std::string_view> status_words() { return kWordList; }

}  // namespace refute
