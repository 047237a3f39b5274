// The selftest: seeds each fault of the catalogue on each backend that hosts it, and measures which
// falsifiers kill it. Exists in the build with fault sites alone (kernels/faults.h).
//
//   1. Every falsifier on every backend, without a fault, on every seed: it must hold, and shows
//      which faults it reaches at all.
//   2. Every fault that a falsifier reaches, seeded: on the first seed, and on the others where
//      that killed and where the seed matters.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "engine/backend_id.h"
#include "validators/kill_matrix.h"
#include "validators/run.h"
#include "validators/subject_files.h"

namespace refute {

struct SelftestOptions {
  std::vector<BackendId> backends;  // Hosts of faults; empty: all that this machine can run.
  std::vector<std::string> faults;  // Ids; empty: all.
  std::string filter;   // Glob or part of a fault's id or title, or of a falsifier's id.
  Partition partition;  // Of the faults.
  std::vector<std::uint64_t> seeds = {1, 2, 3};
  std::size_t cases = 100;                   // Of each property without a fault.
  std::size_t seeded_cases = 100;            // With one.
  std::size_t num_workers = 0;               // 0 takes the number of processors.
  std::chrono::milliseconds limit{120'000};  // Of one attempt.

  // Whether the matrix lacks rows or cells on purpose.
  bool partial() const {
    return !backends.empty() || !faults.empty() || !filter.empty() || partition.count > 1;
  }
};

class SelftestObserver {
 public:
  virtual ~SelftestObserver() = default;
  virtual void progress(std::size_t done, std::size_t total, std::string_view label) = 0;
};

struct SelftestResult {
  KillMatrix matrix;
  // Falsifiers that did not hold without a fault: nothing they kill means anything.
  std::vector<std::string> broken_baselines;
  std::vector<std::string> unreached;    // "F42 on cpu": a site that nothing reached.
  std::vector<std::string> survivors;    // Reached, seeded, and killed by nothing.
  std::vector<std::string> false_kills;  // Equivalent faults that something kills.
  std::size_t attempts = 0;
  std::map<std::string, std::uint64_t> cost_us;  // Of all attempts of each falsifier.
  std::uint64_t duration_us = 0;

  bool all_killed() const {
    return broken_baselines.empty() && unreached.empty() && survivors.empty() &&
           false_kills.empty() && !matrix.rows.empty();
  }
};

SelftestResult run_selftest(const SelftestOptions& options, const LoadedSubject& subject,
                            SelftestObserver& observer);

}  // namespace refute
