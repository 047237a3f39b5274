#include "falsifiers/moe_run.h"

#include <string>
#include <utility>

#include "engine/trace.h"

namespace refute {
namespace {

Result<Matrix<double>> traced(const TraceRecorder& trace, TracePoint point, std::size_t rows,
                              std::size_t columns) {
  const std::string expected =
      "a trace of [" + std::to_string(rows) + ", " + std::to_string(columns) + "]";
  const TraceSite site{point, 0};
  const TraceTensor* tensor = trace.find(site);
  if (tensor == nullptr) return Error{ErrorKind::kInvalidShape, site.name(), expected, "none"};
  const Matrix<double>& values = tensor->values;
  if (values.rows() != rows || values.columns() != columns) {
    return Error{
        ErrorKind::kInvalidShape, site.name(), expected,
        "[" + std::to_string(values.rows()) + ", " + std::to_string(values.columns()) + "]"};
  }
  return values;
}

Result<Matrix<std::int32_t>> as_ids(const Matrix<double>& values, std::size_t num_experts) {
  Matrix<std::int32_t> ids(values.rows(), values.columns());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const double value = values.flat()[i];
    if (!(value >= 0.0 && value < static_cast<double>(num_experts))) {
      return Error{ErrorKind::kInvalidShape, "moe_router_index",
                   "ids below num_experts = " + std::to_string(num_experts), std::to_string(value)};
    }
    ids.flat()[i] = static_cast<std::int32_t>(value);
  }
  return ids;
}

}  // namespace

Result<MoeRun> run_moe(const Backend& backend, const OwnedLayer& layer, const Matrix<double>& x,
                       const ForcedRoutes* forced_routes) {
  const Config& config = layer.config;
  const std::size_t num_tokens = x.rows();
  const std::size_t k = config.num_experts_per_tok;
  MoeRun run;
  run.y = Matrix<double>(num_tokens, config.hidden_size);
  TraceRecorder trace;
  ForwardOptions options;
  options.trace = &trace;
  options.forced_routes = forced_routes;
  auto done =
      backend.moe_ffn_forward_layer(config, layer.view(), 0, 0, x.view(), options, run.y.view());
  if (!done) return done.error();

  Matrix<double> ids;
  struct Wanted {
    TracePoint point;
    std::size_t rows;
    std::size_t columns;
    Matrix<double>* values;
  };
  const Wanted wanted[] = {
      {TracePoint::kRouterLogits, num_tokens, config.num_experts, &run.logits},
      {TracePoint::kRouterIndex, num_tokens, k, &ids},
      {TracePoint::kRouterWeight, num_tokens, k, &run.weights},
      {TracePoint::kExpertGate, num_tokens * k, config.moe_intermediate_size, &run.gate},
      {TracePoint::kExpertUp, num_tokens * k, config.moe_intermediate_size, &run.up},
      {TracePoint::kExpertSwiglu, num_tokens * k, config.moe_intermediate_size, &run.inner},
      {TracePoint::kExpertOut, num_tokens * k, config.hidden_size, &run.out},
      {TracePoint::kMoeOut, num_tokens, config.hidden_size, &run.traced_y},
  };
  for (const Wanted& one : wanted) {
    auto values = traced(trace, one.point, one.rows, one.columns);
    if (!values) return values.error();
    *one.values = *std::move(values);
  }
  auto valid_ids = as_ids(ids, config.num_experts);
  if (!valid_ids) return valid_ids.error();
  run.ids = *std::move(valid_ids);
  return run;
}

Result<void> run_expert(const Backend& backend, const OwnedLayer& layer, std::size_t expert,
                        std::span<const double> x, std::span<double> y) {
  return backend.expert_swiglu(layer.gate_proj.expert(expert), layer.up_proj.expert(expert),
                               layer.down_proj.expert(expert), x, y);
}

}  // namespace refute
