// Claim: Both settings of norm_topk_prob give the closed form within 1e-6: the softmax
//   probabilities of the chosen experts, divided by their sum when it is set and as they are when
//   it is not.
// Why: The setting is part of the model; the ignored or inverted setting scales the whole block and
//   hides from cosine.
// Catches: norm_topk_prob ignored or inverted, softmax over the chosen experts where it must go
//   over all, a wrong denominator.
// Misses: Errors of the order; those belong to router.order_and_ties.
// Source: Qwen3MoeSparseMoeBlock; fault 104 of the catalogue.
#include "falsifiers/router_renormalises_top_k.h"

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

constexpr std::string_view kId = "router.renormalises_top_k";

constexpr std::array<MetricInfo, 2> kMetrics = {{
    {"normalised_error", "|weight - closed form| with norm_topk_prob.", false, 1e-6},
    {"plain_error", "|weight - closed form| without norm_topk_prob.", false, 1e-6},
}};

void both_settings(const Backend& backend, PropertyCase& property_case) {
  const DrawnLogits drawn = draw_logits(property_case);
  bool distinguishable = false;
  for (const bool normalise : {true, false}) {
    const auto routing = backend.route(drawn.logits.view(), drawn.k, normalise);
    if (!require_routing(property_case, routing, drawn.logits, drawn.k)) return;
    for (std::size_t t = 0; t < drawn.logits.rows(); ++t) {
      const auto ids = routing->ids.row(t);
      const auto expected = closed_form_weights(drawn.logits.row(t), ids, normalise);
      double sum = 0.0;
      for (std::size_t r = 0; r < expected.size(); ++r) {
        sum += expected[r];
        property_case.measure(normalise ? "normalised_error" : "plain_error",
                              std::abs(routing->weights(t, r) - expected[r]),
                              "token " + std::to_string(t) + " rank " + std::to_string(r));
      }
      if (!normalise && sum < 0.95) distinguishable = true;
    }
  }
  if (distinguishable) property_case.mark_interesting();
}

}  // namespace

Verdict falsify_renormalises_top_k(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  check_property({kId, "both_settings", 0.3}, criterion, &judge, [&](PropertyCase& property_case) {
    both_settings(subject.backend, property_case);
  });
  return judge.verdict();
}

const FalsifierInfo& router_renormalises_top_k_info() {
  static const FalsifierInfo info = {
      .id = kId,
      .claim =
          "Both settings of norm_topk_prob give the closed form within 1e-6: the softmax "
          "probabilities of the chosen experts, divided by their sum when it is set and as they "
          "are when it is not.",
      .why =
          "The setting is part of the model; the ignored or inverted setting scales the whole "
          "block and hides from cosine.",
      .catches =
          "norm_topk_prob ignored or inverted, softmax over the chosen experts where it must go "
          "over all, a wrong denominator.",
      .misses = "Errors of the order; those belong to router.order_and_ties.",
      .source = "Qwen3MoeSparseMoeBlock; fault 104 of the catalogue.",
      .metrics = kMetrics,
      .backends = kAllBackends,
      .needs_model = false,
      .needs_pack = false,
      .falsify = falsify_renormalises_top_k,
  };
  return info;
}

}  // namespace refute
