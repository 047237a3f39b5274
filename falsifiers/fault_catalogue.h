// The catalogue of faults: what they are, where their sites stand (kernels/faults.h), and on which
// backends. `must_kill` and `blind_to` of a contract name them by id.
#pragma once

#include <span>
#include <string_view>

#include "engine/backend_id.h"

namespace refute {

enum class FaultKind {
  kSeeded,      // A wrong computation: some falsifier must refute it.
  kEquivalent,  // Another way to the same result: every falsifier must hold.
  kBadFile,     // A fault of reading files, shown by files that tests hold.
  kGateMutant,  // A fault of the judges, not of what they judge.
};

struct FaultInfo {
  std::string_view id;           // "F22"
  std::string_view title;        // "missing renormalisation"
  std::string_view detected_by;  // Which property or metric sees it.
  std::string_view missed_by;    // What does not.
  std::string_view place;        // "kernels/route.cc, routing_weights"; of a bad file its test.
  std::span<const BackendId> hosts = {};      // Where a site exists.
  std::span<const BackendId> waits_for = {};  // Where it belongs and no site exists yet.
  FaultKind kind = FaultKind::kSeeded;
  std::string_view proof = {};  // Of an equivalent one: why nothing can differ.
};

// Sorted by number.
std::span<const FaultInfo> fault_catalogue();
const FaultInfo* find_fault(std::string_view id);

}  // namespace refute
