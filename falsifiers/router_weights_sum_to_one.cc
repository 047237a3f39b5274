// Claim: With norm_topk_prob the weights of every token lie in [0, 1] and sum to 1 within 1e-6,
//   and within k units of float32 rounding (k 2^-24).
// Why: Renormalisation divides the k chosen probabilities by their sum, so the experts of a token
//   form a weighted mean.
// Catches: Missing renormalisation, a dropped expert, scaled weights, a stale or wrong denominator.
// Misses: Weights attached to the wrong experts, and any error that keeps the sum.
// Source: Mixtral and Qwen3-MoE (norm_topk_prob); AC_GPU_MOE_002.
#include "falsifiers/router_weights_sum_to_one.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/backend.h"
#include "falsifiers/generators.h"
#include "falsifiers/judge.h"
#include "falsifiers/property.h"
#include "falsifiers/routing_checks.h"

namespace refute {
namespace {

constexpr std::string_view kId = "router.weights_sum_to_one";

constexpr std::array<MetricInfo, 3> kMetrics = {{
    {"sum_error", "|sum of a token's weights - 1|.", false, 1e-6},
    {"sum_error_over_ku", "|sum - 1| over k 2^-24.", false, 1.0},
    {"range_error", "How far the worst weight lies outside of [0, 1].", false, 1e-6},
}};

// The sum before renormalisation; below 0.95 a backend that forgets to renormalise must show.
double unnormalised_sum(std::span<const double> logits, std::size_t k) {
  std::vector<double> probability = softmax(logits);
  std::ranges::sort(probability, std::greater<>());
  double sum = 0.0;
  for (std::size_t r = 0; r < k; ++r) sum += probability[r];
  return sum;
}

void sums_to_one(const Backend& backend, PropertyCase& property_case) {
  const DrawnLogits drawn = draw_logits(property_case);
  const auto routing = backend.route(drawn.logits.view(), drawn.k, true);
  if (!require_routing(property_case, routing, drawn.logits, drawn.k)) return;
  double least_sum = 1.0;
  for (std::size_t t = 0; t < drawn.logits.rows(); ++t) {
    double sum = 0.0;
    double outside = 0.0;
    for (const double weight : routing->weights.row(t)) {
      sum += weight;
      outside = std::max({outside, -weight, weight - 1.0});
    }
    const std::string where = "token " + std::to_string(t);
    const double error = std::abs(sum - 1.0);
    property_case.measure("sum_error", error, where);
    property_case.measure("sum_error_over_ku", error / (static_cast<double>(drawn.k) * 0x1p-24),
                          where);
    property_case.measure("range_error", outside, where);
    least_sum = std::min(least_sum, unnormalised_sum(drawn.logits.row(t), drawn.k));
  }
  if (least_sum < 0.95) property_case.mark_interesting();
}

}  // namespace

Verdict falsify_weights_sum_to_one(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  check_property({kId, "sums_to_one", 0.3}, criterion, &judge,
                 [&](PropertyCase& property_case) { sums_to_one(subject.backend, property_case); });
  return judge.verdict();
}

const FalsifierInfo& router_weights_sum_to_one_info() {
  static const FalsifierInfo info = {
      .id = kId,
      .claim =
          "With norm_topk_prob the weights of every token lie in [0, 1] and sum to 1 within 1e-6, "
          "and within k units of float32 rounding (k 2^-24).",
      .why =
          "Renormalisation divides the k chosen probabilities by their sum, so the experts of a "
          "token form a weighted mean.",
      .catches =
          "Missing renormalisation, a dropped expert, scaled weights, a stale or wrong "
          "denominator.",
      .misses = "Weights attached to the wrong experts, and any error that keeps the sum.",
      .source = "Mixtral and Qwen3-MoE (norm_topk_prob); AC_GPU_MOE_002.",
      .metrics = kMetrics,
      .backends = kAllBackends,
      .needs_model = false,
      .needs_pack = false,
      .falsify = falsify_weights_sum_to_one,
  };
  return info;
}

}  // namespace refute
