#include "validators/trace/recording.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "falsifiers/traced_run.h"

namespace refute {
namespace {

// Hands over to a recorder what is selected.
class SelectingSink : public TraceSink {
 public:
  explicit SelectingSink(const TraceSelection& selection) : selection_(selection) {}

  void record(TraceSite site, std::size_t position, MatrixView<const double> rows) override {
    if (selection_.contains(site)) recorder_.record(site, position, rows);
  }
  void record(TraceSite site, std::size_t position, MatrixView<const float> rows) override {
    if (selection_.contains(site)) recorder_.record(site, position, rows);
  }
  void record(TraceSite site, std::size_t position, MatrixView<const std::int32_t> rows) override {
    if (selection_.contains(site)) recorder_.record(site, position, rows);
  }
  const std::map<TraceSite, TraceTensor>& tensors() const { return recorder_.tensors(); }

 private:
  const TraceSelection& selection_;
  TraceRecorder recorder_;
};

std::string text_of(const Matrix<double>& values) {
  return "[" + std::to_string(values.rows()) + ", " + std::to_string(values.columns()) + "]";
}

}  // namespace

Result<TraceFile> record_run(const Backend& backend, const Model& model,
                             const TraceSelection& selection, const RecordingRequest& request,
                             TraceOrigin origin) {
  SelectingSink sink(selection);
  const auto run = run_traced(backend, model, request.tokens,
                              {.chunk = request.chunk,
                               .forced_routes = request.forced_routes,
                               .up_to_error = nullptr,
                               .sink = &sink});
  if (!run) {
    if (sink.tensors().empty()) return run.error();
    origin.error = run.error().message();
  }
  if (sink.tensors().empty()) {
    return Error{ErrorKind::kVacuous, "trace", "a trace point that is recorded",
                 "none of the " + std::to_string(selection.size()) + " selected"};
  }
  origin.chunk = request.chunk;
  TraceFile trace{std::move(origin), request.tokens, sink.tensors(), {}, {}};
  for (const auto& [site, tensor] : trace.tensors) {
    CaptureInfo& info = trace.captures[site];
    info.first_position = tensor.first_position;
    info.num_tokens = tensor.values.rows() / trace_shape(model.config(), site.point, 1).rows;
  }
  if (trace.origin.error.empty()) return trace;
  for (const TraceSite site : selection.sites()) {
    if (!trace.tensors.contains(site)) trace.missing.push_back(site);
  }
  return trace;
}

Result<ForcedRoutes> routes_of_trace(const TraceFile& trace, const std::filesystem::path& path,
                                     const Config& config, std::span<const std::int32_t> tokens) {
  const auto malformed = [&](std::string expected, std::string found) {
    return Error{ErrorKind::kMalformed, "--routes " + path.string(), std::move(expected),
                 std::move(found)};
  };
  if (!std::ranges::equal(trace.tokens, tokens)) {
    return malformed("the tokens of this run", "others");
  }
  for (std::size_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    const TraceSite site{TracePoint::kRouterIndex, layer};
    const auto entry = trace.tensors.find(site);
    if (entry == trace.tensors.end()) return malformed(site.name(), "no such tensor");
    const Matrix<double>& ids = entry->second.values;
    if (ids.rows() != tokens.size() || ids.columns() != config.num_experts_per_tok) {
      return malformed(site.name() + " [" + std::to_string(tokens.size()) + ", " +
                           std::to_string(config.num_experts_per_tok) + "]",
                       text_of(ids));
    }
  }
  return routes_of(config, trace.tensors);
}

std::vector<SiteSummary> summarise(const TraceFile& trace) {
  Config config;
  for (const auto& [site, tensor] : trace.tensors) {
    config.num_hidden_layers = std::max(config.num_hidden_layers, site.layer + 1);
  }
  std::vector<SiteSummary> summaries;
  for (const TraceSite site : forward_order(config)) {
    const auto entry = trace.tensors.find(site);
    if (entry == trace.tensors.end()) continue;
    const Matrix<double>& values = entry->second.values;
    SiteSummary summary{.site = site,
                        .rows = values.rows(),
                        .columns = values.columns(),
                        .element = entry->second.element};
    double sum = 0.0;
    std::size_t finite = 0;
    for (const double value : values.flat()) {
      if (!std::isfinite(value)) continue;
      sum += value * value;
      summary.min = finite == 0 ? value : std::min(summary.min, value);
      summary.max = finite == 0 ? value : std::max(summary.max, value);
      ++finite;
    }
    summary.non_finite = values.size() - finite;
    if (finite > 0) summary.rms = std::sqrt(sum / static_cast<double>(finite));
    summaries.push_back(summary);
  }
  return summaries;
}

}  // namespace refute
