#include "falsifiers/stage_replay.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/moe_slots.h"
#include "kernels/check.h"
#include "kernels/rope.h"

namespace refute {
namespace {

// The stage that computes `site` on `with`, with its inputs, in the order of the table, at hand.
struct StageCall {
  const Backend& with;
  const Model& model;
  const Config& config;
  const LayerWeights& layer;
  std::span<const std::int32_t> tokens;
  std::vector<Matrix<double>> inputs;

  MatrixView<const double> input(std::size_t i) const { return inputs[i].view(); }
};

using Computed = Result<Matrix<double>>;

Computed head_norm(const StageCall& call, std::span<const float> weight) {
  const MatrixView<const double> x = call.input(0);
  auto y = call.with.rms_norm({x.data, x.size() / weight.size(), weight.size()}, weight,
                              call.config.rms_norm_eps);
  if (!y) return y.error();
  return Matrix<double>(x.rows, x.columns, {y->flat().begin(), y->flat().end()});
}

Computed rope(const StageCall& call, std::size_t num_heads) {
  const RopeTable table(call.config.rope_theta, call.config.head_dim, call.input(0).rows);
  return call.with.rope(table, num_heads, 0, call.input(0));
}

Computed norm(const StageCall& call, std::span<const float> weight) {
  return call.with.rms_norm(call.input(0), weight, call.config.rms_norm_eps);
}

Matrix<std::int32_t> as_ids(MatrixView<const double> values) {
  Matrix<std::int32_t> ids(values.rows, values.columns);
  std::ranges::transform(values.flat(), ids.data(),
                         [](double id) { return static_cast<std::int32_t>(id); });
  return ids;
}

Matrix<double> as_values(const Matrix<std::int32_t>& ids) {
  return {ids.rows(), ids.columns(), {ids.flat().begin(), ids.flat().end()}};
}

// rows [num_slots, ...], slot by slot, times the matrix of the slot's expert.
Computed expert_matmul(const StageCall& call, const ExpertStack& stack,
                       MatrixView<const double> rows, MatrixView<const double> router_index) {
  const Matrix<std::int32_t> ids = as_ids(router_index);
  const SlotGrouping grouping = group_slots_by_expert(ids.view(), call.config.num_experts);
  Matrix<double> grouped(rows.rows, stack.rows);
  for (const ExpertGroup& group : grouping.experts) {
    Matrix<double> x(group.end - group.begin, rows.columns);
    for (std::size_t i = group.begin; i < group.end; ++i) {
      std::ranges::copy(rows.row(grouping.slots[i]), x.row(i - group.begin).begin());
    }
    const auto y = call.with.matmul(stack.expert(group.expert), x.view());
    if (!y) return y.error();
    std::ranges::copy(y->flat(), grouped.row(group.begin).begin());
  }
  return in_slot_order(grouped, grouping.slots);
}

// The hidden state of a token for each of its slots.
Matrix<double> row_per_slot(MatrixView<const double> x, std::size_t num_experts_per_tok) {
  Matrix<double> rows(x.rows * num_experts_per_tok, x.columns);
  for (std::size_t slot = 0; slot < rows.rows(); ++slot) {
    std::ranges::copy(x.row(slot / num_experts_per_tok), rows.row(slot).begin());
  }
  return rows;
}

Computed expert_projection(const StageCall& call, const ExpertStack& stack) {
  const Matrix<double> rows = row_per_slot(call.input(0), call.input(1).columns);
  return expert_matmul(call, stack, rows.view(), call.input(1));
}

Result<Routing<double>> route(const StageCall& call) {
  return call.with.route(call.input(0), call.config.num_experts_per_tok,
                         call.config.norm_topk_prob);
}

// Where an input is found, seen from the stage that reads it.
enum class From {
  kNone,
  kSameLayer,
  kLayerInput,   // The hidden state entering the layer.
  kLayerOutput,  // The hidden state leaving the last layer.
  kOutside,      // Not in a layer.
};

struct Input {
  From from = From::kNone;
  TracePoint point = TracePoint::kEmbedding;
};

constexpr Input of(TracePoint point) { return {From::kSameLayer, point}; }
constexpr Input kHidden = {From::kLayerInput};

struct Stage {
  TracePoint output;
  std::array<Input, 3> inputs;
  Computed (*compute)(const StageCall& call);
};

// In the order of engine/trace.h.
constexpr std::array<Stage, 24> kStages = {{
    {TracePoint::kEmbedding,
     {},
     [](const StageCall& call) { return call.with.embed(call.model.embed_tokens(), call.tokens); }},
    {TracePoint::kAttnNorm,
     {kHidden},
     [](const StageCall& call) { return norm(call, call.layer.input_layernorm); }},
    {TracePoint::kQ,
     {of(TracePoint::kAttnNorm)},
     [](const StageCall& call) { return call.with.matmul(call.layer.q_proj, call.input(0)); }},
    {TracePoint::kK,
     {of(TracePoint::kAttnNorm)},
     [](const StageCall& call) { return call.with.matmul(call.layer.k_proj, call.input(0)); }},
    {TracePoint::kV,
     {of(TracePoint::kAttnNorm)},
     [](const StageCall& call) { return call.with.matmul(call.layer.v_proj, call.input(0)); }},
    {TracePoint::kQNorm,
     {of(TracePoint::kQ)},
     [](const StageCall& call) { return head_norm(call, call.layer.q_norm); }},
    {TracePoint::kKNorm,
     {of(TracePoint::kK)},
     [](const StageCall& call) { return head_norm(call, call.layer.k_norm); }},
    {TracePoint::kQRope,
     {of(TracePoint::kQNorm)},
     [](const StageCall& call) { return rope(call, call.config.num_attention_heads); }},
    {TracePoint::kKRope,
     {of(TracePoint::kKNorm)},
     [](const StageCall& call) { return rope(call, call.config.num_key_value_heads); }},
    {TracePoint::kAttnHeads,
     {of(TracePoint::kQRope), of(TracePoint::kKRope), of(TracePoint::kV)},
     [](const StageCall& call) {
       return call.with.attention(call.config.attention_shape(), call.input(0), call.input(1),
                                  call.input(2), 0);
     }},
    {TracePoint::kAttnOut,
     {of(TracePoint::kAttnHeads)},
     [](const StageCall& call) { return call.with.matmul(call.layer.o_proj, call.input(0)); }},
    {TracePoint::kAttnResidual,
     {kHidden, of(TracePoint::kAttnOut)},
     [](const StageCall& call) { return call.with.add(call.input(0), call.input(1)); }},
    {TracePoint::kFfnNorm,
     {of(TracePoint::kAttnResidual)},
     [](const StageCall& call) { return norm(call, call.layer.post_attention_layernorm); }},
    {TracePoint::kRouterLogits,
     {of(TracePoint::kFfnNorm)},
     [](const StageCall& call) { return call.with.matmul(call.layer.router, call.input(0)); }},
    {TracePoint::kRouterIndex,
     {of(TracePoint::kRouterLogits)},
     [](const StageCall& call) -> Computed {
       const auto routing = route(call);
       if (!routing) return routing.error();
       return as_values(routing->ids);
     }},
    {TracePoint::kRouterWeight,
     {of(TracePoint::kRouterLogits)},
     [](const StageCall& call) -> Computed {
       auto routing = route(call);
       if (!routing) return routing.error();
       return std::move(routing->weights);
     }},
    {TracePoint::kExpertGate,
     {of(TracePoint::kFfnNorm), of(TracePoint::kRouterIndex)},
     [](const StageCall& call) { return expert_projection(call, call.layer.gate_proj); }},
    {TracePoint::kExpertUp,
     {of(TracePoint::kFfnNorm), of(TracePoint::kRouterIndex)},
     [](const StageCall& call) { return expert_projection(call, call.layer.up_proj); }},
    {TracePoint::kExpertSwiglu,
     {of(TracePoint::kExpertGate), of(TracePoint::kExpertUp)},
     [](const StageCall& call) { return call.with.swiglu(call.input(0), call.input(1)); }},
    {TracePoint::kExpertOut,
     {of(TracePoint::kExpertSwiglu), of(TracePoint::kRouterIndex)},
     [](const StageCall& call) {
       return expert_matmul(call, call.layer.down_proj, call.input(0), call.input(1));
     }},
    {TracePoint::kMoeOut,
     {of(TracePoint::kExpertOut), of(TracePoint::kRouterWeight)},
     [](const StageCall& call) { return call.with.combine(call.input(0), call.input(1)); }},
    {TracePoint::kFfnResidual,
     {of(TracePoint::kAttnResidual), of(TracePoint::kMoeOut)},
     [](const StageCall& call) { return call.with.add(call.input(0), call.input(1)); }},
    {TracePoint::kOutputNorm,
     {Input{From::kLayerOutput}},
     [](const StageCall& call) { return norm(call, call.model.norm()); }},
    {TracePoint::kLogits,
     {Input{From::kOutside, TracePoint::kOutputNorm}},
     [](const StageCall& call) { return call.with.matmul(call.model.lm_head(), call.input(0)); }},
}};

const Stage& stage_of(TracePoint point) {
  const Stage& stage = kStages[static_cast<std::size_t>(point)];
  CHECK(stage.output == point);
  return stage;
}

TraceSite site_of(const Input& input, TraceSite reader, const Config& config) {
  switch (input.from) {
    case From::kSameLayer:
      return {input.point, reader.layer};
    case From::kLayerInput:
      if (reader.layer == 0) return {TracePoint::kEmbedding, 0};
      return {TracePoint::kFfnResidual, reader.layer - 1};
    case From::kLayerOutput:
      return {TracePoint::kFfnResidual, config.num_hidden_layers - 1};
    case From::kOutside:
    case From::kNone:
      break;
  }
  return {input.point, 0};
}

// The recorded value at `site`, else the replayed one.
Computed value_at(const Backend& with, const Model& model, TraceSite site,
                  const StageInputs& inputs) {
  const auto entry = inputs.tensors.find(site);
  if (entry == inputs.tensors.end()) return replay_stage(with, model, site, inputs);
  if (entry->second.first_position != 0) {
    return Error{ErrorKind::kInvalidShape, "replay_stage " + site.name(),
                 "rows that start at position 0",
                 "position " + std::to_string(entry->second.first_position)};
  }
  return entry->second.values;
}

Computed moe_block(const Backend& with, const Model& model, TraceSite site,
                   const StageInputs& inputs) {
  auto x = value_at(with, model, {TracePoint::kFfnNorm, site.layer}, inputs);
  if (!x) return x.error();
  const Config& config = model.config();
  ForcedRoutes routes;
  const auto index = inputs.tensors.find({TracePoint::kRouterIndex, site.layer});
  const bool forced = index != inputs.tensors.end();
  if (forced) {
    routes.ids.assign(config.num_hidden_layers,
                      Matrix<std::int32_t>(x->rows(), config.num_experts_per_tok));
    routes.ids[site.layer] = as_ids(index->second.values.view());
  }
  ForwardOptions options;
  options.forced_routes = forced ? &routes : nullptr;
  Matrix<double> y(x->rows(), config.hidden_size);
  if (auto ok = with.moe_ffn_forward_layer(config, model.layers()[site.layer], site.layer, 0,
                                           std::as_const(*x).view(), options, y.view());
      !ok) {
    return ok.error();
  }
  return y;
}

}  // namespace

std::vector<TraceSite> stage_inputs(const Config& config, TraceSite site) {
  std::vector<TraceSite> sites;
  for (const Input& input : stage_of(site.point).inputs) {
    if (input.from != From::kNone) sites.push_back(site_of(input, site, config));
  }
  return sites;
}

Result<Matrix<double>> replay_stage(const Backend& with, const Model& model, TraceSite site,
                                    const StageInputs& inputs) {
  const Config& config = model.config();
  CHECK(site.layer < config.num_hidden_layers);
  if (site.point == TracePoint::kMoeOut &&
      !inputs.tensors.contains({TracePoint::kExpertOut, site.layer})) {
    return moe_block(with, model, site, inputs);
  }
  const Stage& stage = stage_of(site.point);
  StageCall call{with, model, config, model.layers()[site.layer], inputs.tokens, {}};
  for (const Input& input : stage.inputs) {
    if (input.from == From::kNone) continue;
    auto value = value_at(with, model, site_of(input, site, config), inputs);
    if (!value) return value.error();
    call.inputs.push_back(std::move(*value));
  }
  return stage.compute(call);
}

const TensorTypeInfo* matmul_weight_type(const Model& model, TraceSite site) {
  const LayerWeights& layer = model.layers()[site.layer];
  switch (site.point) {
    case TracePoint::kQ:
      return &tensor_type_info(layer.q_proj.type);
    case TracePoint::kK:
      return &tensor_type_info(layer.k_proj.type);
    case TracePoint::kV:
      return &tensor_type_info(layer.v_proj.type);
    case TracePoint::kAttnOut:
      return &tensor_type_info(layer.o_proj.type);
    case TracePoint::kRouterLogits:
      return &tensor_type_info(layer.router.type);
    case TracePoint::kExpertGate:
      return &tensor_type_info(layer.gate_proj.type);
    case TracePoint::kExpertUp:
      return &tensor_type_info(layer.up_proj.type);
    case TracePoint::kExpertOut:
      return &tensor_type_info(layer.down_proj.type);
    case TracePoint::kLogits:
      return &tensor_type_info(model.lm_head().type);
    default:
      return nullptr;
  }
}

}  // namespace refute
