// The status of a stage, and the words by which contracts claim one.
#pragma once

#include <optional>
#include <span>
#include <string_view>

namespace refute {

enum class StageStatus {
  kPending,     // A needed acceptance has no record.
  kRefuted,     // A needed falsifier was refuted.
  kStale,       // Records exist for other hashes.
  kPartial,     // Held on some backends or subjects.
  kDischarged,  // All needed falsifiers held, and the hashes match.
  kShipped,     // Discharged, and so is every stage it comes after.
};

// "PENDING", "REFUTED", "STALE", "PARTIAL", "DISCHARGED", "SHIPPED".
std::string_view stage_status_name(StageStatus status);

// How much a status promises: PENDING, REFUTED and STALE 0, PARTIAL 1, DISCHARGED 2, SHIPPED 3.
// A claim is too high when its rank is above that of the derived status.
int stage_status_rank(StageStatus status);

// A word of ours or of the public dialect: DRAFT and PROPOSED claim PENDING;
// PARTIALLY_DISCHARGED, ALGORITHM_LEVEL_DISCHARGED and ACTIVE_ALGORITHM_LEVEL claim PARTIAL;
// ACTIVE_RUNTIME claims DISCHARGED.
std::optional<StageStatus> parse_claimed_status(std::string_view word);

// Every word that parse_claimed_status knows.
std::span<const std::string_view> status_words();

}  // namespace refute
