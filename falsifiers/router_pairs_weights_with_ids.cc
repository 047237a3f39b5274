// Claim: Every weight belongs to the expert of its id, within 1e-6: permuting the experts permutes
//   the ids and keeps the weights, raising a logit past the k-th replaces exactly that one, and a
//   single expert has weight exactly 1.
// Why: The weighted sum is right only if weight r multiplies the output of expert ids[r].
// Catches: Weights reversed or exchanged against ids, ids off by one, uniform weights, one expert
//   dropped or swapped.
// Misses: A common factor on all weights when norm_topk_prob is off.
// Source: Definition of the router; faults 30 to 36 of the catalogue.
#include "falsifiers/router_pairs_weights_with_ids.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/backend.h"
#include "falsifiers/generators.h"
#include "falsifiers/judge.h"
#include "falsifiers/property.h"
#include "falsifiers/routing_checks.h"

namespace refute {
namespace {

constexpr std::string_view kId = "router.pairs_weights_with_ids";

constexpr std::array<MetricInfo, 3> kMetrics = {{
    {"pairing_error", "|weight - closed form of the expert with that id|.", false, 1e-6},
    {"misplaced_ids", "Ranks that hold another expert than they should; fewer than one.", false,
     0.5},
    {"unit_error", "|weight - 1| of a single expert: exactly 0.", false, 1e-17},
}};

void measure_pairing(PropertyCase& property_case, const Matrix<double>& logits,
                     const Routing<double>& routing) {
  for (std::size_t t = 0; t < logits.rows(); ++t) {
    const auto expected = closed_form_weights(logits.row(t), routing.ids.row(t), true);
    for (std::size_t r = 0; r < expected.size(); ++r) {
      property_case.measure("pairing_error", std::abs(routing.weights(t, r) - expected[r]),
                            "token " + std::to_string(t) + " rank " + std::to_string(r));
    }
    if (routing.weights.columns() == 1) {
      property_case.measure("unit_error", std::abs(routing.weights(t, 0) - 1.0),
                            "token " + std::to_string(t));
    }
    if (expected.front() - expected.back() > 1e-3) property_case.mark_interesting();
  }
}

void weights_belong_to_ids(const Backend& backend, PropertyCase& property_case) {
  const DrawnLogits drawn = draw_logits(property_case);
  const auto routing = backend.route(drawn.logits.view(), drawn.k, true);
  if (!require_routing(property_case, routing, drawn.logits, drawn.k)) return;
  measure_pairing(property_case, drawn.logits, *routing);
}

void permuted_experts(const Backend& backend, PropertyCase& property_case) {
  const DrawnLogits drawn = draw_distinct_logits(property_case, 2);
  const auto place = make_permutation(drawn.logits.columns(), property_case.seed("permutation"));
  Matrix<double> moved(drawn.logits.rows(), drawn.logits.columns());
  for (std::size_t t = 0; t < moved.rows(); ++t) {
    for (std::size_t e = 0; e < moved.columns(); ++e) moved(t, place[e]) = drawn.logits(t, e);
  }
  const auto before = backend.route(drawn.logits.view(), drawn.k, true);
  const auto after = backend.route(moved.view(), drawn.k, true);
  if (!require_routing(property_case, before, moved, drawn.k) ||
      !require_routing(property_case, after, moved, drawn.k)) {
    return;
  }
  for (std::size_t t = 0; t < moved.rows(); ++t) {
    const std::string where = "permuted token " + std::to_string(t);
    if (place[static_cast<std::size_t>(before->ids(t, 0))] !=
        static_cast<std::size_t>(before->ids(t, 0))) {
      property_case.mark_interesting();
    }
    std::vector<std::int32_t> expected;
    for (const std::int32_t id : before->ids.row(t)) {
      expected.push_back(static_cast<std::int32_t>(place[static_cast<std::size_t>(id)]));
    }
    property_case.measure("misplaced_ids", count_differing(expected, after->ids.row(t)), where);
    for (std::size_t r = 0; r < drawn.k; ++r) {
      property_case.measure("pairing_error", std::abs(after->weights(t, r) - before->weights(t, r)),
                            where);
    }
  }
}

// Lifts one expert that was not chosen to just above the k-th: it takes that place and no other.
void raised_logit(const Backend& backend, PropertyCase& property_case) {
  DrawnLogits drawn = draw_distinct_logits(property_case, 2);
  const std::size_t num_experts = drawn.logits.columns();
  const std::size_t k = std::min(drawn.k, num_experts - 1);
  const std::size_t rank = k + property_case.integer("raised rank", 0, num_experts - k - 1);
  std::vector<std::vector<std::int32_t>> expected;
  for (std::size_t t = 0; t < drawn.logits.rows(); ++t) {
    auto order = stable_top_k(drawn.logits.row(t), num_experts);
    const auto raised = static_cast<std::size_t>(order[rank]);
    drawn.logits(t, raised) = drawn.logits(t, static_cast<std::size_t>(order[k - 1])) + 0x1p-10;
    order[k - 1] = order[rank];
    order.resize(k);
    expected.push_back(std::move(order));
  }
  const auto routing = backend.route(drawn.logits.view(), k, true);
  if (!require_routing(property_case, routing, drawn.logits, k)) return;
  for (std::size_t t = 0; t < expected.size(); ++t) {
    property_case.measure("misplaced_ids", count_differing(expected[t], routing->ids.row(t)),
                          "raised token " + std::to_string(t));
  }
  if (rank > k) property_case.mark_interesting();  // Not merely the next one in order.
}

void single_expert(const Backend& backend, PropertyCase& property_case) {
  const DrawnLogits drawn = draw_logits(property_case);
  const auto routing = backend.route(drawn.logits.view(), 1, true);
  if (!require_routing(property_case, routing, drawn.logits, 1)) return;
  measure_pairing(property_case, drawn.logits, *routing);
  // Without renormalisation the weight would not be 1.
  if (drawn.logits.columns() > 1) property_case.mark_interesting();
}

}  // namespace

Verdict falsify_pairs_weights_with_ids(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  const auto check = [&](std::string_view name, double least_interesting, auto property) {
    check_property({kId, name, least_interesting}, criterion, &judge,
                   [&](PropertyCase& property_case) { property(subject.backend, property_case); });
  };
  check("weights_belong_to_ids", 0.2, weights_belong_to_ids);
  check("permuted_experts", 0.5, permuted_experts);
  check("raised_logit", 0.2, raised_logit);
  check("single_expert", 0.5, single_expert);
  return judge.verdict();
}

const FalsifierInfo& router_pairs_weights_with_ids_info() {
  static const FalsifierInfo info = {
      .id = kId,
      .claim =
          "Every weight belongs to the expert of its id, within 1e-6: permuting the experts "
          "permutes the ids and keeps the weights, raising a logit past the k-th replaces exactly "
          "that one, and a single expert has weight exactly 1.",
      .why = "The weighted sum is right only if weight r multiplies the output of expert ids[r].",
      .catches =
          "Weights reversed or exchanged against ids, ids off by one, uniform weights, one expert "
          "dropped or swapped.",
      .misses = "A common factor on all weights when norm_topk_prob is off.",
      .source = "Definition of the router; faults 30 to 36 of the catalogue.",
      .metrics = kMetrics,
      .backends = kAllBackends,
      .needs_model = false,
      .needs_pack = false,
      .falsify = falsify_pairs_weights_with_ids,
  };
  return info;
}

}  // namespace refute
