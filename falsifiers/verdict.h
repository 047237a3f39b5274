// What became of one attempt to refute one claim.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace refute {

// Only kHeld passes.
enum class VerdictKind {
  kHeld,     // Tried at least once, and every gate was met.
  kRefuted,  // A gate was broken, or a counterexample found.
  kGaveUp,   // The generator could not meet its guard often enough.
  kNotRun,   // Not tried; `reason` says why.
  kError,    // The attempt itself failed.
};

// "held", "refuted", "gave_up", "not_run", "error".
std::string_view verdict_name(VerdictKind kind);

// What a refutation rests on. Only the falsifier's own finding shows that it can see a fault: a
// trap (valid input gave an error, or NaN came back) says no more than a crash.
enum class RefutedBy { kNothing, kMetric, kCheck, kTrap };

// "nothing", "metric", "check", "trap".
std::string_view refuted_by_name(RefutedBy by);

// The worst value that one metric took over all cases.
struct MetricReading {
  std::string metric;  // A name of the falsifier's metrics.
  double worst = 0.0;
  double threshold = 0.0;
  bool larger_is_better = false;
  std::string where;  // "layer 2 moe_out row 5 (chained)"

  // Written so that NaN fails.
  bool passed() const { return larger_is_better ? worst >= threshold : worst <= threshold; }
};

struct Verdict {
  VerdictKind kind = VerdictKind::kNotRun;
  RefutedBy refuted_by = RefutedBy::kNothing;
  std::string reason;  // One sentence; for kRefuted it names layer, trace point and metric.
  std::vector<MetricReading> metrics;
  std::size_t cases_run = 0;
  std::size_t cases_failed = 0;
  std::size_t cases_discarded = 0;
  std::string counterexample;  // The shrunk input, for people.
  std::string replay_token;    // `refute run --replay TOKEN` repeats exactly this case.
  std::vector<std::string> notes;

  bool held() const { return kind == VerdictKind::kHeld; }

  static Verdict not_run(std::string reason);
  static Verdict error(std::string reason);
};

}  // namespace refute
