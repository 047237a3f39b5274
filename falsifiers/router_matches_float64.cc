// Claim: From the same float32 logits a backend chooses the experts of the float64 router, and its
//   weights agree within relative L2 5e-6.
// Why: Comparisons of float32 logits are exact, and softmax of at most 256 of them in float32 errs
//   by a few units in the last place.
// Catches: Exponentials of low accuracy, bfloat16 or float16 anywhere in the router, a wrong
//   denominator, wrong selection.
// Misses: What the float64 router itself gets wrong; the closed forms of the other router
//   falsifiers see that.
// Source: Class A of the comparison classes.
#include "falsifiers/router_matches_float64.h"

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>

#include "engine/backend.h"
#include "falsifiers/generators.h"
#include "falsifiers/judge.h"
#include "falsifiers/metrics.h"
#include "falsifiers/parity.h"
#include "falsifiers/property.h"
#include "falsifiers/routing_checks.h"

namespace refute {
namespace {

constexpr std::string_view kId = "router.matches_float64";

constexpr auto kMetrics = parity_and<1>({{
    {"wrong_ids", "Tokens whose set of experts differs; fewer than one.", false, 0.5},
}});

void agrees(const Backend& reference, const Backend& backend, PropertyCase& property_case) {
  const DrawnLogits drawn = draw_logits(property_case);
  const bool normalise = property_case.flag("norm_topk_prob");
  const auto expected = reference.route(drawn.logits.view(), drawn.k, normalise);
  const auto routing = backend.route(drawn.logits.view(), drawn.k, normalise);
  if (!property_case.require_ok(expected, "oracle route") ||
      !require_routing(property_case, routing, drawn.logits, drawn.k)) {
    return;
  }
  // The same logits on both sides: no tie band.
  const auto comparison =
      compare_routing(expected->ids.view(), routing->ids.view(), drawn.logits.view(), 0.0);
  if (!property_case.require_ok(comparison, "router ids")) return;
  property_case.measure("wrong_ids", static_cast<double>(comparison->wrong_outside),
                        "token " + std::to_string(comparison->first_wrong));
  measure_parity(property_case, expected->weights.view(), routing->weights.view(),
                 "router weights");
}

}  // namespace

Verdict falsify_router_matches_float64(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  const auto oracle = make_oracle_backend(ActivationScheme::kExact);
  check_property({kId, "agrees"}, criterion, &judge, [&](PropertyCase& property_case) {
    agrees(*oracle, subject.backend, property_case);
  });
  return judge.verdict();
}

const FalsifierInfo& router_matches_float64_info() {
  static const FalsifierInfo info = {
      .id = kId,
      .claim =
          "From the same float32 logits a backend chooses the experts of the float64 router, and "
          "its weights agree within relative L2 5e-6.",
      .why =
          "Comparisons of float32 logits are exact, and softmax of at most 256 of them in float32 "
          "errs by a few units in the last place.",
      .catches =
          "Exponentials of low accuracy, bfloat16 or float16 anywhere in the router, a wrong "
          "denominator, wrong selection.",
      .misses =
          "What the float64 router itself gets wrong; the closed forms of the other router "
          "falsifiers see that.",
      .source = "Class A of the comparison classes.",
      .metrics = kMetrics,
      .backends = kFastBackends,
      .needs_model = false,
      .needs_pack = false,
      .falsify = falsify_router_matches_float64,
  };
  return info;
}

}  // namespace refute
