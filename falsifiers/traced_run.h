// Recorded forward passes: what the falsifiers of a whole model look at.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string_view>
#include <vector>

#include "engine/backend.h"
#include "engine/config.h"
#include "engine/forward.h"
#include "engine/model.h"
#include "engine/trace.h"
#include "falsifiers/falsifier.h"
#include "falsifiers/judge.h"
#include "kernels/matrix.h"
#include "kernels/result.h"

namespace refute {

using TraceTensors = std::map<TraceSite, TraceTensor>;

// Every trace point of a forward pass with all logits, in the order of recording.
std::vector<TraceSite> forward_order(const Config& config);

// The documented shape of a trace point for `num_tokens` tokens (engine/trace.h).
struct TraceShape {
  std::size_t rows = 0;
  std::size_t columns = 0;

  bool operator==(const TraceShape&) const = default;
};
TraceShape trace_shape(const Config& config, TracePoint point, std::size_t num_tokens);

struct TracedRun {
  Matrix<double> logits;  // [num_tokens, vocab_size]
  TraceTensors trace;
};

struct TracedRunOptions {
  std::size_t chunk = 0;  // Tokens a call; 0 gives all of them at once.
  const ForcedRoutes* forced_routes = nullptr;
  // Gets what was recorded up to an error, when the run gives one.
  TraceTensors* up_to_error = nullptr;
  // Gets what is recorded, in place of the run, whose logits and trace stay empty.
  TraceSink* sink = nullptr;
};

// Appends `tokens` to a sequence and records everything. Precondition: tokens is not empty.
Result<TracedRun> run_traced(Session& session, std::span<const std::int32_t> tokens,
                             const TracedRunOptions& options = {});
// The same on a new sequence that has room for exactly these tokens.
Result<TracedRun> run_traced(const Backend& backend, const Model& model,
                             std::span<const std::int32_t> tokens,
                             const TracedRunOptions& options = {});

// Whether every trace point was recorded in its documented shape; the first that was not refutes.
bool require_complete(const Config& config, const TracedRun& run, Judge* judge);

// The routes that a recorded run took. Precondition: its router_index is there for every layer.
ForcedRoutes routes_of(const Config& config, const TraceTensors& trace);

std::vector<std::int32_t> random_tokens(const Config& config, std::uint64_t seed,
                                        std::size_t count);
// The tokens of the subject's oracle pack; without one, `count` random ones (at most the context).
std::vector<std::int32_t> probe_tokens(const Subject& subject, std::uint64_t seed,
                                       std::size_t count);

// Measures for every trace point, and for the logits, how many elements of the first `num_tokens`
// tokens differ in their bits; a trace point that is missing or shaped differently refutes. Counts
// one case. Returns whether nothing failed. Precondition: both runs are of one model.
bool measure_differing_elements(const Config& config, const TracedRun& reference,
                                const TracedRun& candidate, std::size_t num_tokens,
                                std::string_view metric, std::string_view where, Judge* judge);

// The subject gave an error on valid input: that refutes it, unless the machine lacks the device or
// the memory (then the attempt failed).
void judge_subject_error(const Error& error, std::string_view where, Judge* judge);
// The reference gave an error: the attempt failed.
void judge_reference_error(const Error& error, std::string_view where, Judge* judge);

}  // namespace refute
