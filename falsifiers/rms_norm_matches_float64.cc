// Claim: RMSNorm of the same float32 rows agrees with float64 within relative L2 5e-6, for any
//   width, outlier channels, rows of zeros and rows around 1e-30.
// Why: A float32 sum of squares of at most 4096 elements in 128 lanes errs by some ten units in the
//   last place, and the root halves it.
// Catches: A missing gain, a subtracted mean, n - 1 in the mean, a float16 or bfloat16 accumulator,
//   tail elements left out, denormals flushed.
// Misses: A wrong epsilon where the rows are much larger than it; rms_norm.closed_form_near_epsilon
//   sees that.
// Source: Zhang & Sennrich, 2019; class A of the comparison classes.
#include "falsifiers/rms_norm_matches_float64.h"

#include <array>
#include <cstddef>
#include <string_view>

#include "engine/backend.h"
#include "falsifiers/generators.h"
#include "falsifiers/judge.h"
#include "falsifiers/parity.h"
#include "falsifiers/property.h"

namespace refute {
namespace {

constexpr std::string_view kId = "rms_norm.matches_float64";

constexpr auto kMetrics = kParityMetrics;

constexpr std::array<std::size_t, 9> kWidths = {1, 3, 32, 64, 127, 128, 129, 256, 2048};

void agrees(const Backend& reference, const Backend& backend, PropertyCase& property_case) {
  const std::size_t columns = property_case.pick("columns", kWidths);
  const std::size_t rows = property_case.integer("rows", 1, 9);
  const Matrix<double> x = draw_activations(property_case, rows, columns);
  const auto gain = make_gain(columns, property_case.seed("gain seed"));
  const auto expected = reference.rms_norm(x.view(), gain, 1e-6f);
  const auto found = backend.rms_norm(x.view(), gain, 1e-6f);
  if (!property_case.require_ok(expected, "oracle rms_norm") ||
      !property_case.require_ok(found, "rms_norm")) {
    return;
  }
  measure_parity(property_case, expected->view(), found->view(), "rms_norm");
}

}  // namespace

Verdict falsify_rms_norm_matches_float64(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  const auto oracle = make_oracle_backend(ActivationScheme::kExact);
  check_property({kId, "agrees"}, criterion, &judge, [&](PropertyCase& property_case) {
    agrees(*oracle, subject.backend, property_case);
  });
  return judge.verdict();
}

const FalsifierInfo& rms_norm_matches_float64_info() {
  static const FalsifierInfo info = {
      .id = kId,
      .claim =
          "RMSNorm of the same float32 rows agrees with float64 within relative L2 5e-6, for any "
          "width, outlier channels, rows of zeros and rows around 1e-30.",
      .why =
          "A float32 sum of squares of at most 4096 elements in 128 lanes errs by some ten units "
          "in the last place, and the root halves it.",
      .catches =
          "A missing gain, a subtracted mean, n - 1 in the mean, a float16 or bfloat16 "
          "accumulator, tail elements left out, denormals flushed.",
      .misses =
          "A wrong epsilon where the rows are much larger than it; "
          "rms_norm.closed_form_near_epsilon sees that.",
      .source = "Zhang & Sennrich, 2019; class A of the comparison classes.",
      .metrics = kMetrics,
      .backends = kFastBackends,
      .needs_model = false,
      .needs_pack = false,
      .falsify = falsify_rms_norm_matches_float64,
  };
  return info;
}

}  // namespace refute
