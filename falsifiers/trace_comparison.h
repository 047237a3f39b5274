// Two recorded runs held against each other, trace point by trace point, in forward order.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/backend.h"
#include "engine/model.h"
#include "engine/trace_file.h"
#include "falsifiers/metrics.h"
#include "falsifiers/run_distance.h"
#include "falsifiers/verdict.h"
#include "kernels/result.h"

namespace refute {

enum class SiteState {
  kEqual,       // Every bit.
  kWithin,      // The bounds.
  kBeyond,      // A bound is exceeded, or a bit differs where none may.
  kNonFinite,   // NaN or Inf, on either side.
  kShape,       // Rows or columns differ.
  kMissing,     // The candidate ended before it.
  kNotCompared  // Local only: the inputs of the stage are not recorded.
};
std::string_view site_state_name(SiteState state);  // "within"

// How the candidate's experts stand to the reference's.
struct RouteDifference {
  std::size_t tokens = 0;
  std::size_t other_sets = 0;    // Tokens with another set of experts,
  std::size_t outside_band = 0;  // and those of them that are no near tie.
  std::size_t first_token = 0;   // The first with another set.
};

struct SiteComparison {
  TraceSite site;
  SiteState state = SiteState::kNotCompared;
  std::size_t elements = 0;
  std::size_t differing = 0;                 // Elements whose bits differ.
  std::optional<Comparison> distances = {};  // Absent where they mean nothing.
  std::vector<MetricReading> readings = {};  // Those that have a bound.
  std::optional<RouteDifference> routes = {};
  std::string detail = {};  // What is wrong, for people; else empty.

  bool diverges() const;
  // Another set of experts at a near tie: no fault, but everything after it is another computation.
  bool parts() const { return routes && routes->other_sets > 0; }
  // The largest value over its bound; 0 without bounds.
  double excess() const;
};

struct TraceComparison {
  Yardstick yardstick = {};
  std::size_t num_hidden_layers = 0;
  std::vector<SiteComparison> sites = {};  // In forward order; those that both sides have.
  std::vector<TraceSite> one_sided = {};   // Not compared: only one side selected them.

  // The first site, in forward order, that diverges or takes other experts; null when none does.
  const SiteComparison* first_divergence() const;
  bool diverges() const;
  std::size_t compared() const;  // Sites that were.
};

// Whether the two are runs of the same tokens through the same model, captured alike. kInvalidShape
// says what differs. Where a file does not say which model it is of, shapes must agree.
Result<void> check_same_run(const TraceFile& reference, const TraceFile& candidate);

// Chained errors: what both recorded, as it is. Rows of experts and their weights are paired by the
// expert's id. Precondition: check_same_run.
TraceComparison compare_chained(const TraceFile& reference, const TraceFile& candidate);

// Local errors: every stage computed again by `backend` from the reference's values, and compared
// with the reference's result. `candidate` says which backend that is. A stage whose inputs are not
// recorded is composed from those of its own layer, or not compared.
TraceComparison compare_local(const TraceFile& reference, const TraceOrigin& candidate,
                              const Backend& backend, const Model& model);

}  // namespace refute
