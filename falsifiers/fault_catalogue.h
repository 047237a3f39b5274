// The catalogue of seeded faults: what they are, not where they sit. `must_kill` and `blind_to` of
// a contract name them by id.
#pragma once

#include <span>
#include <string_view>

namespace refute {

struct FaultInfo {
  std::string_view id;           // "F22"
  std::string_view title;        // "missing renormalisation"
  std::string_view detected_by;  // Which property or metric sees it.
  std::string_view missed_by;    // What does not.
};

// Sorted by number.
std::span<const FaultInfo> fault_catalogue();
const FaultInfo* find_fault(std::string_view id);

}  // namespace refute
