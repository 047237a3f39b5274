// Claim: Adding one number, up to 1e4 in magnitude, to all router logits changes no id, and no
//   weight by more than 1e-6.
// Why: Softmax is invariant under a shift; logits on a grid of 2^-8 stay exact in float32 under
//   such a shift, so that not even rounding excuses a change.
// Catches: A maximum not subtracted (overflow), a fixed offset or clamp, logits rounded to
//   bfloat16.
// Misses: Anything that is itself invariant under a shift.
// Source: Definition of softmax.
#include "falsifiers/router_shift_invariant.h"

#include <array>
#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>

#include "engine/backend.h"
#include "falsifiers/generators.h"
#include "falsifiers/judge.h"
#include "falsifiers/property.h"
#include "falsifiers/routing_checks.h"

namespace refute {
namespace {

constexpr std::string_view kId = "router.shift_invariant";

constexpr std::array<MetricInfo, 2> kMetrics = {{
    {"misplaced_ids", "Ranks whose expert changes under the shift; fewer than one.", false, 0.5},
    {"weight_change", "|change of a weight| under the shift.", false, 1e-6},
}};

constexpr std::array<double, 8> kShifts = {1.0,    -1.0,   0.25,    64.0,
                                           -200.0, 3000.0, 10000.0, -10000.0};

void shifted(const Backend& backend, PropertyCase& property_case) {
  const DrawnLogits drawn = draw_distinct_logits(property_case, 1);
  const double shift = property_case.pick("shift", kShifts);
  const bool normalise = property_case.flag("norm_topk_prob");
  Matrix<double> moved = drawn.logits;
  for (double& logit : moved.flat()) logit += shift;
  const auto before = backend.route(drawn.logits.view(), drawn.k, normalise);
  const auto after = backend.route(moved.view(), drawn.k, normalise);
  if (!require_routing(property_case, before, moved, drawn.k) ||
      !require_routing(property_case, after, moved, drawn.k)) {
    return;
  }
  if (drawn.logits.columns() > 1 && std::abs(shift) >= 200.0) property_case.mark_interesting();
  for (std::size_t t = 0; t < moved.rows(); ++t) {
    const std::string where = "token " + std::to_string(t);
    property_case.measure("misplaced_ids", count_differing(before->ids.row(t), after->ids.row(t)),
                          where);
    for (std::size_t r = 0; r < drawn.k; ++r) {
      property_case.measure("weight_change", std::abs(after->weights(t, r) - before->weights(t, r)),
                            where);
    }
  }
}

}  // namespace

Verdict falsify_shift_invariant(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  check_property({kId, "shifted", 0.2}, criterion, &judge,
                 [&](PropertyCase& property_case) { shifted(subject.backend, property_case); });
  return judge.verdict();
}

const FalsifierInfo& router_shift_invariant_info() {
  static const FalsifierInfo info = {
      .id = kId,
      .claim =
          "Adding one number, up to 1e4 in magnitude, to all router logits changes no id, and no "
          "weight by more than 1e-6.",
      .why =
          "Softmax is invariant under a shift; logits on a grid of 2^-8 stay exact in float32 "
          "under such a shift, so that not even rounding excuses a change.",
      .catches =
          "A maximum not subtracted (overflow), a fixed offset or clamp, logits rounded to "
          "bfloat16.",
      .misses = "Anything that is itself invariant under a shift.",
      .source = "Definition of softmax.",
      .metrics = kMetrics,
      .backends = kAllBackends,
      .needs_model = false,
      .needs_pack = false,
      .falsify = falsify_shift_invariant,
  };
  return info;
}

}  // namespace refute
