// Claim: A token goes to the k experts of the largest logits, in descending order, ties to the
//   lowest id; equal logits give the ids 0..k-1 with 1/k each.
// Why: Every backend must choose the same experts from the same logits, and only a stated rule for
//   ties makes that so.
// Catches: Ties broken by thread or lane, unstable selection, duplicated or skipped ids, ids beyond
//   int8 or uint8, a router that reads its weights wrong when they are zero.
// Misses: Wrong weights for the right experts.
// Source: Qwen3-MoE; the tie rule is that of a stable descending sort.
#include "falsifiers/router_order_and_ties.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/backend.h"
#include "engine/trace.h"
#include "falsifiers/generators.h"
#include "falsifiers/judge.h"
#include "falsifiers/property.h"
#include "falsifiers/routing_checks.h"

namespace refute {
namespace {

constexpr std::string_view kId = "router.order_and_ties";

constexpr std::array<MetricInfo, 3> kMetrics = {{
    {"misplaced_ids",
     "Ranks that hold another expert than a stable descending sort; fewer than one.", false, 0.5},
    {"ascent", "The largest rise of a weight from one rank to the next.", false, 1e-7},
    {"uniform_error", "|weight - 1/k| where all logits are equal.", false, 1e-6},
}};

void measure_order(PropertyCase& property_case, const Matrix<double>& logits,
                   const Routing<double>& routing) {
  for (std::size_t t = 0; t < logits.rows(); ++t) {
    const std::string where = "token " + std::to_string(t);
    const auto expected = stable_top_k(logits.row(t), routing.ids.columns());
    property_case.measure("misplaced_ids", count_differing(expected, routing.ids.row(t)), where);
    double ascent = 0.0;
    for (std::size_t r = 1; r < routing.weights.columns(); ++r) {
      ascent = std::max(ascent, routing.weights(t, r) - routing.weights(t, r - 1));
    }
    property_case.measure("ascent", ascent, where);
  }
}

void measure_uniform(PropertyCase& property_case, std::span<const std::int32_t> ids,
                     std::span<const double> weights, const std::string& where) {
  std::vector<std::int32_t> first(ids.size());
  std::iota(first.begin(), first.end(), 0);
  property_case.measure("misplaced_ids", count_differing(first, ids), where);
  for (const double weight : weights) {
    const double error = std::abs(weight - 1.0 / static_cast<double>(weights.size()));
    property_case.measure("uniform_error", error, where);
  }
}

void sorts(const Backend& backend, PropertyCase& property_case) {
  const DrawnLogits drawn = draw_logits(property_case);
  const bool normalise = property_case.flag("norm_topk_prob");
  const auto routing = backend.route(drawn.logits.view(), drawn.k, normalise);
  if (!require_routing(property_case, routing, drawn.logits, drawn.k)) return;
  measure_order(property_case, drawn.logits, *routing);
}

constexpr std::array<std::size_t, 7> kExpertCounts = {1, 2, 8, 60, 128, 129, 256};
constexpr std::array<double, 3> kLevels = {0.0, 1.5, -30000.0};

void all_equal(const Backend& backend, PropertyCase& property_case, std::size_t index) {
  const std::size_t num_experts = kExpertCounts[index / kLevels.size()];
  const double level = kLevels[index % kLevels.size()];
  for (const std::size_t k : {std::size_t{1}, std::min<std::size_t>(8, num_experts), num_experts}) {
    const Matrix<double> logits(2, num_experts, std::vector<double>(2 * num_experts, level));
    const auto routing = backend.route(logits.view(), k, true);
    if (!require_routing(property_case, routing, logits, k)) return;
    for (std::size_t t = 0; t < 2; ++t) {
      measure_uniform(property_case, routing->ids.row(t), routing->weights.row(t),
                      "all equal token " + std::to_string(t));
    }
  }
}

// The same through the whole block: a router of zeros, k of 1, 8 and all.
constexpr std::array<std::size_t, 2> kBlockExperts = {8, 129};
constexpr std::size_t kZeroRouters = 3 * kBlockExperts.size();
void zero_router(const Backend& backend, PropertyCase& property_case, std::size_t index) {
  LayerShape shape;
  shape.num_experts = kBlockExperts[index / 3];
  const std::array<std::size_t, 3> ks = {1, 8, shape.num_experts};
  shape.num_experts_per_tok = ks[index % 3];
  OwnedLayer layer = make_layer(shape, 1);
  std::ranges::fill(layer.router.bytes, std::byte{0});
  const Matrix<double> x = make_activations(ActivationKind::kNormal, 2, shape.hidden_size, 2);
  Matrix<double> y(x.rows(), x.columns());
  TraceRecorder trace;
  ForwardOptions options;
  options.trace = &trace;
  const auto done =
      backend.moe_ffn_forward_layer(layer.config, layer.view(), 0, 0, x.view(), options, y.view());
  if (!property_case.require_ok(done, "moe_ffn_forward_layer")) return;
  const TraceTensor* ids = trace.find({TracePoint::kRouterIndex, 0});
  const TraceTensor* weights = trace.find({TracePoint::kRouterWeight, 0});
  if (!property_case.require(ids != nullptr && weights != nullptr, "the router is not traced")) {
    return;
  }
  for (std::size_t t = 0; t < x.rows(); ++t) {
    const auto row = ids->values.row(t);
    const std::vector<std::int32_t> chosen(row.begin(), row.end());
    measure_uniform(property_case, chosen, weights->values.row(t),
                    "zero router token " + std::to_string(t));
  }
}

}  // namespace

Verdict falsify_order_and_ties(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  check_property({kId, "sorts"}, criterion, &judge,
                 [&](PropertyCase& property_case) { sorts(subject.backend, property_case); });
  check_pinned({kId, "all_equal"}, criterion, &judge, kExpertCounts.size() * kLevels.size(),
               [&](PropertyCase& property_case, std::size_t index) {
                 all_equal(subject.backend, property_case, index);
               });
  check_pinned({kId, "zero_router"}, criterion, &judge, kZeroRouters,
               [&](PropertyCase& property_case, std::size_t index) {
                 zero_router(subject.backend, property_case, index);
               });
  return judge.verdict();
}

const FalsifierInfo& router_order_and_ties_info() {
  static const FalsifierInfo info = {
      .id = kId,
      .claim =
          "A token goes to the k experts of the largest logits, in descending order, ties to the "
          "lowest id; equal logits give the ids 0..k-1 with 1/k each.",
      .why =
          "Every backend must choose the same experts from the same logits, and only a stated rule "
          "for ties makes that so.",
      .catches =
          "Ties broken by thread or lane, unstable selection, duplicated or skipped ids, ids "
          "beyond int8 or uint8, a router that reads its weights wrong when they are zero.",
      .misses = "Wrong weights for the right experts.",
      .source = "Qwen3-MoE; the tie rule is that of a stable descending sort.",
      .metrics = kMetrics,
      .backends = kAllBackends,
      .needs_model = false,
      .needs_pack = false,
      .falsify = falsify_order_and_ties,
  };
  return info;
}

}  // namespace refute
