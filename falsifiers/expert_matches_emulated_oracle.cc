// Claim: expert_swiglu is down_proj(silu(gate_proj x) * up_proj x): each step agrees within
//   relative L2 5e-6 with float64 under the same int8 activations, fed the input of that step bit
//   for bit.
// Why: The product of two int8 matmuls is discontinuous where the inner activations are rounded, so
//   the steps are compared one by one and the last one is the output of expert_swiglu itself.
// Catches: Gate and up exchanged, another activation function, a type assumed for one of the three
//   matrices, an expert with rows or columns mixed up.
// Misses: Errors common to matmul and to its oracle, such as a misread format;
//   matmul.one_hot_reads_columns sees those.
// Source: Shazeer, 2020; class B of the comparison classes, step by step.
#include "falsifiers/expert_matches_emulated_oracle.h"

#include <array>
#include <span>
#include <string_view>

#include "engine/backend.h"
#include "falsifiers/generators.h"
#include "falsifiers/judge.h"
#include "falsifiers/owned_weights.h"
#include "falsifiers/parity.h"
#include "falsifiers/property.h"

namespace refute {
namespace {

constexpr std::string_view kId = "expert.matches_emulated_oracle";

constexpr auto kMetrics = kParityMetrics;

OwnedLayer draw_expert(PropertyCase& property_case) {
  const bool wide = property_case.flag("super-blocks");
  LayerShape shape;
  shape.hidden_size = wide ? 512 : property_case.pick("hidden_size", std::array<int, 2>{32, 96});
  shape.moe_intermediate_size = wide ? 256 : 64;
  const std::span<const TensorType> types =
      wide ? std::span<const TensorType>(kWeightTypes) : std::span<const TensorType>(kNarrowTypes);
  shape.gate_proj = draw_type(property_case, "gate_proj", types);
  shape.up_proj = draw_type(property_case, "up_proj", types);
  shape.down_proj = draw_type(property_case, "down_proj", types);
  return make_layer(shape, property_case.seed("expert seed"));
}

void step_by_step(const Backend& reference, const Backend& backend, PropertyCase& property_case) {
  const OwnedLayer layer = draw_expert(property_case);
  const WeightView gate_proj = layer.gate_proj.expert(0);
  const WeightView up_proj = layer.up_proj.expert(0);
  const WeightView down_proj = layer.down_proj.expert(0);
  const Matrix<double> x = draw_activations(property_case, 1, gate_proj.columns);
  Matrix<double> y(1, down_proj.rows);
  const auto done = backend.expert_swiglu(gate_proj, up_proj, down_proj, x.flat(), y.flat());
  const auto gate = backend.matmul(gate_proj, x.view());
  const auto up = backend.matmul(up_proj, x.view());
  if (!property_case.require_ok(done, "expert_swiglu") ||
      !property_case.require_ok(gate, "gate_proj") || !property_case.require_ok(up, "up_proj")) {
    return;
  }
  const auto inner = backend.swiglu(gate->view(), up->view());
  if (!property_case.require_ok(inner, "swiglu")) return;

  const auto expected_gate = reference.matmul(gate_proj, x.view());
  const auto expected_up = reference.matmul(up_proj, x.view());
  const auto expected_inner = reference.swiglu(gate->view(), up->view());
  const auto expected = reference.matmul(down_proj, inner->view());
  if (!property_case.require_ok(expected_gate, "oracle gate_proj") ||
      !property_case.require_ok(expected_up, "oracle up_proj") ||
      !property_case.require_ok(expected_inner, "oracle swiglu") ||
      !property_case.require_ok(expected, "oracle down_proj")) {
    return;
  }
  measure_parity(property_case, expected_gate->view(), gate->view(), "gate");
  measure_parity(property_case, expected_up->view(), up->view(), "up");
  measure_parity(property_case, expected_inner->view(), inner->view(), "swiglu");
  measure_parity(property_case, expected->view(), y.view(), "expert_swiglu");
}

}  // namespace

Verdict falsify_expert_matches_emulated_oracle(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  const auto oracle = make_oracle_backend(ActivationScheme::kEmulatedInt8);
  check_property({kId, "step_by_step"}, criterion, &judge, [&](PropertyCase& property_case) {
    step_by_step(*oracle, subject.backend, property_case);
  });
  return judge.verdict();
}

const FalsifierInfo& expert_matches_emulated_oracle_info() {
  static const FalsifierInfo info = {
      .id = kId,
      .claim =
          "expert_swiglu is down_proj(silu(gate_proj x) * up_proj x): each step agrees within "
          "relative L2 5e-6 with float64 under the same int8 activations, fed the input of that "
          "step bit for bit.",
      .why =
          "The product of two int8 matmuls is discontinuous where the inner activations are "
          "rounded, so the steps are compared one by one and the last one is the output of "
          "expert_swiglu itself.",
      .catches =
          "Gate and up exchanged, another activation function, a type assumed for one of the three "
          "matrices, an expert with rows or columns mixed up.",
      .misses =
          "Errors common to matmul and to its oracle, such as a misread format; "
          "matmul.one_hot_reads_columns sees those.",
      .source = "Shazeer, 2020; class B of the comparison classes, step by step.",
      .metrics = kMetrics,
      .backends = kFastBackends,
      .needs_model = false,
      .needs_pack = false,
      .falsify = falsify_expert_matches_emulated_oracle,
  };
  return info;
}

}  // namespace refute
