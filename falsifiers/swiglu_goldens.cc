// Claim: silu(1) = 0.7310585786 and its minimum -0.2784645428 at -1.2784645428 within 2e-7, a zero
//   gate gives 0, and negating up negates every bit pattern.
// Why: Known values need no reference implementation; the minimum tells SiLU from its look-alikes.
// Catches: GELU, quick-GELU, ReLU or sigmoid for SiLU, gate and up exchanged.
// Misses: Errors at other points; swiglu.matches_float64 covers them.
// Source: Elfwing et al., 2018; the minimum solves 1 + exp(-x) + x exp(-x) = 0.
#include "falsifiers/swiglu_goldens.h"

#include <array>
#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>

#include "engine/backend.h"
#include "falsifiers/generators.h"
#include "falsifiers/judge.h"
#include "falsifiers/property.h"

namespace refute {
namespace {

constexpr std::string_view kId = "swiglu.goldens";

constexpr std::array<MetricInfo, 3> kMetrics = {{
    {"golden_error", "|silu(x) - golden|.", false, 2e-7},
    {"zero_gate", "Largest |y| where the gate is 0.", false, 1e-45},
    {"asymmetry", "Elements that negating up does not negate; fewer than one.", false, 0.5},
}};

struct Golden {
  double gate;
  double silu;
};
// silu of the float32 nearest to each gate, in float64.
constexpr std::array<Golden, 5> kGoldens = {{{1.0, 0.7310585786300049},
                                             {-1.0, -0.2689414213699951},
                                             {0.5, 0.3112296656009273},
                                             {-1.2784645427610738, -0.2784645427610738},
                                             {-20.0, -4.122307236380407e-08}}};

void goldens(const Backend& backend, PropertyCase& property_case, std::size_t index) {
  const Matrix<double> gate(1, 1, {static_cast<double>(static_cast<float>(kGoldens[index].gate))});
  const Matrix<double> up(1, 1, {1.0});
  const auto y = backend.swiglu(gate.view(), up.view());
  if (!property_case.require_ok(y, "swiglu")) return;
  property_case.measure("golden_error", std::abs((*y)(0, 0) - kGoldens[index].silu),
                        "silu(" + std::to_string(kGoldens[index].gate) + ")");
}

void zero_gate(const Backend& backend, PropertyCase& property_case) {
  const std::size_t columns = property_case.integer("columns", 1, 70);
  const Matrix<double> gate(2, columns);
  const Matrix<double> up = draw_activations(property_case, 2, columns);
  const auto y = backend.swiglu(gate.view(), up.view());
  if (!property_case.require_ok(y, "swiglu")) return;
  double worst = 0.0;
  for (const double value : y->flat()) {
    if (!(std::abs(value) <= worst)) worst = std::abs(value);
  }
  property_case.measure("zero_gate", worst, "zero gate");
}

void negated_up(const Backend& backend, PropertyCase& property_case) {
  const std::size_t columns = property_case.integer("columns", 1, 70);
  const Matrix<double> gate = draw_activations(property_case, 2, columns);
  const Matrix<double> up = draw_activations(property_case, 2, columns);
  Matrix<double> negated = up;
  for (double& value : negated.flat()) value = -value;
  const auto y = backend.swiglu(gate.view(), up.view());
  const auto opposite = backend.swiglu(gate.view(), negated.view());
  if (!property_case.require_ok(y, "swiglu") || !property_case.require_ok(opposite, "swiglu"))
    return;
  double differing = 0.0;
  for (std::size_t i = 0; i < y->size(); ++i) {
    if (!(opposite->flat()[i] == -y->flat()[i])) differing += 1.0;
  }
  property_case.measure("asymmetry", differing, "negated up");
}

}  // namespace

Verdict falsify_swiglu_goldens(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  check_pinned({kId, "goldens"}, criterion, &judge, kGoldens.size(),
               [&](PropertyCase& property_case, std::size_t index) {
                 goldens(subject.backend, property_case, index);
               });
  check_property({kId, "zero_gate"}, criterion, &judge,
                 [&](PropertyCase& property_case) { zero_gate(subject.backend, property_case); });
  check_property({kId, "negated_up"}, criterion, &judge,
                 [&](PropertyCase& property_case) { negated_up(subject.backend, property_case); });
  return judge.verdict();
}

const FalsifierInfo& swiglu_goldens_info() {
  static const FalsifierInfo info = {
      .id = kId,
      .claim =
          "silu(1) = 0.7310585786 and its minimum -0.2784645428 at -1.2784645428 within 2e-7, a "
          "zero gate gives 0, and negating up negates every bit pattern.",
      .why =
          "Known values need no reference implementation; the minimum tells SiLU from its "
          "look-alikes.",
      .catches = "GELU, quick-GELU, ReLU or sigmoid for SiLU, gate and up exchanged.",
      .misses = "Errors at other points; swiglu.matches_float64 covers them.",
      .source = "Elfwing et al., 2018; the minimum solves 1 + exp(-x) + x exp(-x) = 0.",
      .metrics = kMetrics,
      .backends = kAllBackends,
      .needs_model = false,
      .needs_pack = false,
      .falsify = falsify_swiglu_goldens,
  };
  return info;
}

}  // namespace refute
