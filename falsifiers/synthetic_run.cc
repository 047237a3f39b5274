#include "falsifiers/synthetic_run.h"

#include <array>
#include <utility>

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
                                          PropertyCase& property_case) {
  Model model = file.load().value();
  const Config& config = model.config();
  auto tokens = random_tokens(config, token_seed, num_tokens);
  auto run = run_traced(backend, model, tokens);
  if (!property_case.require_ok(run, "forward")) return std::nullopt;
  if (!require_all_traced(config, *run, property_case)) return std::nullopt;
  return SyntheticRun{std::move(model), std::move(tokens), std::move(*run)};
}

}  // namespace refute
