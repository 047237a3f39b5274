// One recorded forward pass for `refute trace`: what was selected, as far as the pass came.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/backend.h"
#include "engine/trace_file.h"
#include "kernels/result.h"
#include "validators/trace/selection.h"

namespace refute {

struct RecordingRequest {
  std::vector<std::int32_t> tokens = {};
  std::size_t chunk = 0;                        // Tokens a call; 0 gives all of them at once.
  const ForcedRoutes* forced_routes = nullptr;  // Borrowed; the router decides when null.
};

// Runs `tokens` from position 0 and keeps what `selection` holds. A forward pass that ends with an
// error after it has recorded something is a trace too: origin.error says what ended it. An error
// before that is returned. kVacuous when nothing that is selected was recorded.
Result<TraceFile> record_run(const Backend& backend, const Model& model,
                             const TraceSelection& selection, const RecordingRequest& request,
                             TraceOrigin origin);

// The experts that a recorded run took. kMalformed when it is of other tokens, or does not hold
// router_index of every layer in the model's shape; `path` is named.
Result<ForcedRoutes> routes_of_trace(const TraceFile& trace, const std::filesystem::path& path,
                                     const Config& config, std::span<const std::int32_t> tokens);

// What people ask first of a recorded site.
struct SiteSummary {
  TraceSite site = {};
  std::size_t rows = 0;
  std::size_t columns = 0;
  TraceElement element = TraceElement::kFloat64;
  double rms = 0.0;  // Of the finite elements, like the two below.
  double min = 0.0;
  double max = 0.0;
  std::size_t non_finite = 0;
};

// In the order of a forward pass.
std::vector<SiteSummary> summarise(const TraceFile& trace);

}  // namespace refute
