// Claim: silu(gate) * up agrees with float64 within relative L2 5e-6 and each element within 1e-6
//   of its own size, for gates from -80 to 80 and for tiny and outlying values.
// Why: One exponential, one division and one product in float32 err by about four units in the last
//   place.
// Catches: GELU, quick-GELU, ReLU or a plain sigmoid for SiLU, gate and up exchanged, a coarse
//   exponential, denormals flushed.
// Misses: Nothing that stays within the tolerance.
// Source: Shazeer, 2020; class A of the comparison classes.
#include "falsifiers/swiglu_matches_float64.h"

#include <array>
#include <cmath>
#include <cstddef>
#include <string_view>

#include "engine/backend.h"
#include "falsifiers/generators.h"
#include "falsifiers/judge.h"
#include "falsifiers/parity.h"
#include "falsifiers/property.h"
#include "falsifiers/seeded_random.h"

namespace refute {
namespace {

constexpr std::string_view kId = "swiglu.matches_float64";

constexpr auto kMetrics = parity_and<1>({{
    {"element_error", "|y' - y| over |y|, where |y| is at least 1e-30; the worst element.", false,
     1e-6},
}});

constexpr std::array<std::size_t, 6> kWidths = {1, 7, 32, 64, 129, 768};

void agrees(const Backend& reference, const Backend& backend, PropertyCase& property_case) {
  const std::size_t columns = property_case.pick("columns", kWidths);
  const std::size_t rows = property_case.integer("rows", 1, 9);
  Matrix<double> gate = draw_activations(property_case, rows, columns);
  Matrix<double> up = draw_activations(property_case, rows, columns);
  if (property_case.flag("wide gates")) {
    SeededRandom random(property_case.seed("gate seed"));
    // silu(-80) is near 1e-33: with a tiny up the product would leave float32.
    up = make_activations(ActivationKind::kNormal, rows, columns, random.next());
    for (double& value : gate.flat()) {
      value = static_cast<double>(static_cast<float>(random.uniform(-80.0, 80.0)));
    }
  }
  const auto expected = reference.swiglu(gate.view(), up.view());
  const auto found = backend.swiglu(gate.view(), up.view());
  if (!property_case.require_ok(expected, "oracle swiglu") ||
      !property_case.require_ok(found, "swiglu")) {
    return;
  }
  double worst = 0.0;
  for (std::size_t i = 0; i < expected->size(); ++i) {
    const double size = std::abs(expected->flat()[i]);
    if (size < 1e-30) continue;
    const double error = std::abs(found->flat()[i] - expected->flat()[i]) / size;
    if (!(error <= worst)) worst = error;
  }
  property_case.measure("element_error", worst, "swiglu");
  measure_parity(property_case, expected->view(), found->view(), "swiglu");
}

}  // namespace

Verdict falsify_swiglu_matches_float64(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  const auto oracle = make_oracle_backend(ActivationScheme::kExact);
  check_property({kId, "agrees"}, criterion, &judge, [&](PropertyCase& property_case) {
    agrees(*oracle, subject.backend, property_case);
  });
  return judge.verdict();
}

const FalsifierInfo& swiglu_matches_float64_info() {
  static const FalsifierInfo info = {
      .id = kId,
      .claim =
          "silu(gate) * up agrees with float64 within relative L2 5e-6 and each element within "
          "1e-6 of its own size, for gates from -80 to 80 and for tiny and outlying values.",
      .why =
          "One exponential, one division and one product in float32 err by about four units in the "
          "last place.",
      .catches =
          "GELU, quick-GELU, ReLU or a plain sigmoid for SiLU, gate and up exchanged, a coarse "
          "exponential, denormals flushed.",
      .misses = "Nothing that stays within the tolerance.",
      .source = "Shazeer, 2020; class A of the comparison classes.",
      .metrics = kMetrics,
      .backends = kFastBackends,
      .needs_model = false,
      .needs_pack = false,
      .falsify = falsify_swiglu_matches_float64,
  };
  return info;
}

}  // namespace refute
