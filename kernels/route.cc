#include "kernels/route.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/faulty/routing.h"
#include "kernels/math.h"

namespace refute {
namespace {

double exponential(double x) { return std::exp(x); }
float exponential(float x) { return exp32(x); }

// The 128-lane order of kernels/matmul.h with plain additions.
template <typename Real>
Real lane_sum(std::span<const Real> values) {
  std::array<Real, 128> lanes{};
  for (std::size_t i = 0; i < values.size(); ++i) lanes[i % 128] += values[i];
  for (std::size_t h = 64; h > 0; h /= 2) {
    for (std::size_t i = 0; i < h; ++i) lanes[i] += lanes[i + h];
  }
  return lanes[0];
}

template <typename Real>
Result<void> check_routing(std::span<const Real> logits, std::size_t num_ids,
                           std::size_t num_weights) {
  if (num_ids == 0 || num_ids > logits.size()) {
    return Error{ErrorKind::kInvalidShape, "route num_experts_per_tok",
                 "1 to num_experts = " + std::to_string(logits.size()), std::to_string(num_ids)};
  }
  if (num_weights != num_ids) {
    return Error{ErrorKind::kInvalidShape, "route weights", std::to_string(num_ids) + " elements",
                 std::to_string(num_weights)};
  }
  for (std::size_t e = 0; e < logits.size(); ++e) {
    if (!std::isfinite(logits[e])) {
      return Error{ErrorKind::kNonFinite, "route logit of expert " + std::to_string(e),
                   "a finite number", std::to_string(logits[e])};
    }
  }
  return {};
}

}  // namespace

template <typename Real>
Result<void> route(std::span<const Real> logits, bool norm_topk_prob, std::span<std::int32_t> ids,
                   std::span<Real> weights) {
  if constexpr (kFaultSites) {
    if (faulty::route_bad_input(logits, norm_topk_prob, ids, weights)) return {};
  }
  if (auto ok = check_routing(logits, ids.size(), weights.size()); !ok) return ok;
  std::vector<std::int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto ranks_before = [&](std::int32_t a, std::int32_t b) {
    const Real logit_a = logits[static_cast<std::size_t>(a)];
    const Real logit_b = logits[static_cast<std::size_t>(b)];
    return logit_a != logit_b ? logit_a > logit_b : a < b;
  };
  const auto k = static_cast<std::ptrdiff_t>(ids.size());
  std::partial_sort(order.begin(), order.begin() + k, order.end(), ranks_before);
  std::copy(order.begin(), order.begin() + k, ids.begin());
  auto ok = routing_weights<Real>(logits, norm_topk_prob, ids, weights);
  if constexpr (kFaultSites) faulty::edit_ids(logits, ids);
  return ok;
}

template <typename Real>
Result<void> routing_weights(std::span<const Real> logits, bool norm_topk_prob,
                             std::span<const std::int32_t> ids, std::span<Real> weights) {
  if (auto ok = check_routing(logits, ids.size(), weights.size()); !ok) return ok;
  constexpr FaultHost kHost = kFaultHostOf<Real>;
  if constexpr (kFaultSites) {
    if (faulty::weights_of_rounded_logits(logits, norm_topk_prob, ids, weights)) return {};
  }
  const bool some = ids.size() < logits.size();  // Else the weights sum to 1 as they are.
  const bool normalise =
      norm_topk_prob ? !(some && fault_seeded("F22", kHost)) : some && fault_seeded("F104", kHost);
  const Real max = *std::max_element(logits.begin(), logits.end());
  std::vector<Real> exponentials(logits.size());
  std::ranges::transform(logits, exponentials.begin(),
                         [max](Real logit) { return exponential(logit - max); });
  const bool late = normalise && fault_seeded("F109", kHost);  // Softmax of the chosen ones.
  const Real denominator = late ? Real{1} : lane_sum<Real>(exponentials);

  for (std::size_t r = 0; r < ids.size(); ++r) {
    CHECK(ids[r] >= 0 && static_cast<std::size_t>(ids[r]) < logits.size());
    weights[r] = exponentials[static_cast<std::size_t>(ids[r])] / denominator;
  }
  if (normalise && ids.size() > 1 && fault_seeded("F28", kHost)) weights.back() = 0;
  if (normalise) {
    const Real sum = lane_sum<Real>(weights);
    for (Real& weight : weights) weight /= sum;
  }
  if constexpr (kFaultSites) faulty::edit_weights(weights);
  return {};
}

template Result<void> route(std::span<const double>, bool, std::span<std::int32_t>,
                            std::span<double>);
template Result<void> route(std::span<const float>, bool, std::span<std::int32_t>,
                            std::span<float>);
template Result<void> routing_weights(std::span<const double>, bool, std::span<const std::int32_t>,
                                      std::span<double>);
template Result<void> routing_weights(std::span<const float>, bool, std::span<const std::int32_t>,
                                      std::span<float>);

}  // namespace refute
