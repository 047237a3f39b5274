#include "falsifiers/synthetic_run.h"

#include <array>
#include <utility>

#include "falsifiers/metrics.h"

namespace refute {

const Matrix<double>& SyntheticRun::at(TracePoint point, std::size_t layer) const {
  return run.trace.at({point, layer}).values;
}

SyntheticShape draw_shape(PropertyCase& property_case) {
  static constexpr std::array<SyntheticShape, 2> kShapes = {SyntheticShape::kNarrow,
                                                            SyntheticShape::kWide};
  return property_case.pick("model", kShapes, [](SyntheticShape shape) {
    return shape == SyntheticShape::kNarrow ? "narrow" : "wide";
  });
}

SyntheticFile draw_file(PropertyCase& property_case, SyntheticShape shape) {
  return SyntheticFile::make(synthetic_options(shape, property_case.seed("model seed"))).value();
}

namespace {

void measure_non_finite(const Config& config, const TraceTensors& trace, std::string_view metric,
                        PropertyCase& property_case) {
  for (const TraceSite site : forward_order(config)) {
    const auto found = trace.find(site);
    if (found == trace.end()) continue;
    const std::size_t count = count_non_finite(found->second.values.view());
    property_case.measure(metric, static_cast<double>(count), site.name());
  }
}

}  // namespace

bool require_all_traced(const Config& config, const TracedRun& run, PropertyCase& property_case) {
  for (const TraceSite site : forward_order(config)) {
    const auto found = run.trace.find(site);
    if (!property_case.require(found != run.trace.end(), site.name() + " is not traced")) {
      return false;
    }
    const Matrix<double>& values = found->second.values;
    const TraceShape shape = trace_shape(config, site.point, run.logits.rows());
    if (!property_case.require(TraceShape{values.rows(), values.columns()} == shape,
                               site.name() + " has another shape than documented")) {
      return false;
    }
  }
  return true;
}

std::optional<SyntheticRun> run_synthetic(const Backend& backend, const SyntheticFile& file,
                                          std::size_t num_tokens, std::uint64_t token_seed,
                                          PropertyCase& property_case,
                                          std::string_view non_finite_metric) {
  Model model = file.load().value();
  const Config& config = model.config();
  auto tokens = random_tokens(config, token_seed, num_tokens);
  TraceTensors up_to_error;
  auto run = run_traced(backend, model, tokens,
                        {.chunk = 0, .forced_routes = nullptr, .up_to_error = &up_to_error});
  if (!non_finite_metric.empty()) {
    measure_non_finite(config, run ? run->trace : up_to_error, non_finite_metric, property_case);
  }
  if (!property_case.require_ok(run, "forward")) return std::nullopt;
  if (!require_all_traced(config, *run, property_case)) return std::nullopt;
  return SyntheticRun{std::move(model), std::move(tokens), std::move(*run)};
}

}  // namespace refute
