// One attempt of the selftest: a falsifier on a backend with a seed, with or without a fault. Runs
// in a worker process; tasks and results cross to it as texts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "engine/backend_id.h"
#include "falsifiers/verdict.h"
#include "validators/selftest/worker_pool.h"
#include "validators/subject_files.h"

namespace refute {

// In place of a falsifier: the logits with the fault beside those without it, as the one metric
// logits_cosine. It judges nothing.
inline constexpr const char* kPopularGate = "popular-gate";

// A task of its own: its result is the names of the backends that this machine can run.
inline constexpr const char* kWhichBackends = "backends";
std::vector<std::string> parse_backend_names(const std::string& text);

struct AttemptTask {
  std::string falsifier;
  BackendId backend = BackendId::kOracle;
  std::uint64_t seed = 1;
  std::string fault;  // Empty: none is seeded, and what is reached is noted.

  auto operator<=>(const AttemptTask&) const = default;
  std::string text() const;
  static AttemptTask parse(const std::string& text);  // Precondition: text() wrote it.
};

struct AttemptResult {
  VerdictKind kind = VerdictKind::kError;
  RefutedBy refuted_by = RefutedBy::kNothing;
  std::string reason;
  std::vector<MetricReading> metrics;  // Without `where`.
  std::size_t cases_run = 0;
  std::uint64_t hits = 0;            // Of the seeded fault.
  std::string outputs_sha256;        // Of the backend's raw outputs.
  std::vector<std::string> reached;  // Without a fault: the faults of this backend in reach.
  std::uint64_t duration_us = 0;

  std::string text() const;
  static AttemptResult parse(const std::string& text);
};

// What workers do: text of an AttemptTask to text of an AttemptResult. Properties have `cases`
// cases, with a fault `seeded_cases`. Backends are made in the worker, with one thread each.
// `subject` must outlive the pool.
WorkerPool::Work attempt_work(const LoadedSubject& subject, std::size_t cases,
                              std::size_t seeded_cases);

}  // namespace refute
