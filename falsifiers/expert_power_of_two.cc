// Claim: Doubling or negating every scale of down_proj doubles or negates the output of
//   expert_swiglu without changing another bit, negating those of up_proj negates it, and a
//   gate_proj of zeros gives exactly 0.
// Why: The output is linear in the scales of down_proj and powers of two are exact in float32.
// Catches: A minimum term left out of a scaling, accumulators that overflow or saturate, an output
//   cached from an earlier call, gate ignored.
// Misses: Errors that are linear themselves.
// Source: Linearity; faults 75 and 93 of the catalogue.
#include "falsifiers/expert_power_of_two.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "engine/backend.h"
#include "falsifiers/generators.h"
#include "falsifiers/judge.h"
#include "falsifiers/owned_weights.h"
#include "falsifiers/parity.h"
#include "falsifiers/property.h"

namespace refute {
namespace {

constexpr std::string_view kId = "expert.power_of_two";

constexpr std::array<MetricInfo, 2> kMetrics = {{
    kDifferingElements,
    {"zero_gate", "Largest |y| where gate_proj is zero.", false, 1e-45},
}};

constexpr std::array<double, 4> kFactors = {2.0, -1.0, 0.5, 16.0};

Result<Matrix<double>> run(const Backend& backend, const OwnedLayer& layer,
                           const Matrix<double>& x) {
  Matrix<double> y(1, layer.down_proj.rows);
  auto done = backend.expert_swiglu(layer.gate_proj.expert(0), layer.up_proj.expert(0),
                                    layer.down_proj.expert(0), x.flat(), y.flat());
  if (!done) return done.error();
  return y;
}

OwnedLayer draw_expert(PropertyCase& property_case) {
  LayerShape shape;
  shape.hidden_size = 256;
  shape.moe_intermediate_size = 256;
  shape.gate_proj = draw_type(property_case, "gate_proj", kWeightTypes);
  shape.up_proj = draw_type(property_case, "up_proj", kWeightTypes);
  shape.down_proj = draw_type(property_case, "down_proj", kWeightTypes);
  OwnedLayer layer = make_layer(shape, property_case.seed("expert seed"));
  // Into the middle of float16's range, where the factors are exact.
  multiply_scales(shape.down_proj, layer.down_proj.bytes, 16.0f);
  return layer;
}

// Multiplies the scales of one matrix and looks for the factor in the output.
void measure_factor(const Backend& backend, OwnedLayer layer, OwnedStack OwnedLayer::*matrix,
                    double factor, const std::string& name, PropertyCase& property_case) {
  const Matrix<double> x = draw_activations(property_case, 1, layer.config.hidden_size);
  const auto before = run(backend, layer, x);
  OwnedStack& stack = layer.*matrix;
  multiply_scales(stack.type, stack.bytes, static_cast<float>(factor));
  auto after = run(backend, layer, x);
  if (!property_case.require_ok(before, "expert_swiglu") ||
      !property_case.require_ok(after, "expert_swiglu")) {
    return;
  }
  // 0 of either sign is the same zero.
  Matrix<double> expected = *before;
  for (double& value : expected.flat()) value = value * factor + 0.0;
  for (double& value : after->flat()) value += 0.0;
  const bool moved = std::ranges::any_of(expected.flat(), [](double y) { return y != 0.0; });
  if (moved) property_case.mark_interesting();
  measure_equal_bits(property_case, expected.view(), after->view(),
                     name + " times " + std::to_string(factor));
}

void scaled(const Backend& backend, PropertyCase& property_case) {
  OwnedLayer layer = draw_expert(property_case);
  const double factor = property_case.pick("factor", kFactors);
  measure_factor(backend, std::move(layer), &OwnedLayer::down_proj, factor, "down_proj",
                 property_case);
}

void negated_up(const Backend& backend, PropertyCase& property_case) {
  measure_factor(backend, draw_expert(property_case), &OwnedLayer::up_proj, -1.0, "up_proj",
                 property_case);
}

void zero_gate(const Backend& backend, PropertyCase& property_case) {
  OwnedLayer layer = draw_expert(property_case);
  const Matrix<double> x = draw_activations(property_case, 1, layer.config.hidden_size);
  const auto control = run(backend, layer, x);
  std::ranges::fill(layer.gate_proj.bytes, std::byte{0});
  const auto y = run(backend, layer, x);
  if (!property_case.require_ok(control, "expert_swiglu") ||
      !property_case.require_ok(y, "expert_swiglu")) {
    return;
  }
  if (std::ranges::any_of(control->flat(), [](double value) { return value != 0.0; })) {
    property_case.mark_interesting();
  }
  double worst = 0.0;
  for (const double value : y->flat()) {
    if (!(std::abs(value) <= worst)) worst = std::abs(value);
  }
  property_case.measure("zero_gate", worst, "gate_proj of zeros");
}

}  // namespace

Verdict falsify_expert_power_of_two(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  // Rows of zeros and values around 1e-30 have no output to double.
  check_property({kId, "scaled", 0.5}, with_fewer_cases(criterion, 2), &judge,
                 [&](PropertyCase& property_case) { scaled(subject.backend, property_case); });
  check_property({kId, "negated_up", 0.5}, with_fewer_cases(criterion, 3), &judge,
                 [&](PropertyCase& property_case) { negated_up(subject.backend, property_case); });
  check_property({kId, "zero_gate", 0.5}, with_fewer_cases(criterion, 2), &judge,
                 [&](PropertyCase& property_case) { zero_gate(subject.backend, property_case); });
  return judge.verdict();
}

const FalsifierInfo& expert_power_of_two_info() {
  static const FalsifierInfo info = {
      .id = kId,
      .claim =
          "Doubling or negating every scale of down_proj doubles or negates the output of "
          "expert_swiglu without changing another bit, negating those of up_proj negates it, and "
          "a gate_proj of zeros gives exactly 0.",
      .why =
          "The output is linear in the scales of down_proj and powers of two are exact in float32.",
      .catches =
          "A minimum term left out of a scaling, accumulators that overflow or saturate, an output "
          "cached from an earlier call, gate ignored.",
      .misses = "Errors that are linear themselves.",
      .source = "Linearity; faults 75 and 93 of the catalogue.",
      .metrics = kMetrics,
      .backends = kAllBackends,
      .needs_model = false,
      .needs_pack = false,
      .falsify = falsify_expert_power_of_two,
  };
  return info;
}

}  // namespace refute
