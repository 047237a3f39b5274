#include "kernels/faulty/routing.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

#include "kernels/quant/half.h"
#include "kernels/route.h"

namespace refute::faulty {
namespace {

// Logits closer than this count as a near tie (F114).
constexpr double kNearTie = 0.1;

}  // namespace

template <typename Real>
bool route_bad_input(std::span<const Real> logits, bool norm_topk_prob, std::span<std::int32_t> ids,
                     std::span<Real> weights) {
  constexpr FaultHost kHost = kFaultHostOf<Real>;
  if (logits.empty() || ids.empty() || ids.size() != weights.size()) return false;
  const std::size_t k = std::min(ids.size(), logits.size());
  const auto is_bad = [](Real logit) { return !std::isfinite(logit); };
  const bool bad = std::ranges::any_of(logits, is_bad);
  if (!bad && ids.size() > k && fault_seeded("F116", kHost)) {
    std::ranges::fill(ids.subspan(k), 0);
    std::ranges::fill(weights.subspan(k), Real{0});
    return route<Real>(logits, norm_topk_prob, ids.first(k), weights.first(k)).has_value();
  }
  if (!bad || ids.size() > k) return false;
  if (fault_seeded("F115", kHost)) {
    std::iota(ids.begin(), ids.end(), 0);
    std::ranges::fill(weights, Real{1} / static_cast<Real>(k));
    return true;
  }
  if (fault_seeded("F97", kHost)) {
    std::vector<Real> finite(logits.begin(), logits.end());
    std::ranges::replace_if(finite, is_bad, Real{-1e30f});
    return route<Real>(finite, norm_topk_prob, ids, weights).has_value();
  }
  return false;
}

template <typename Real>
void edit_ids(std::span<const Real> logits, std::span<std::int32_t> ids) {
  constexpr FaultHost kHost = kFaultHostOf<Real>;
  const auto num_experts = static_cast<std::int32_t>(logits.size());
  const auto logit = [&](std::int32_t id) { return logits[static_cast<std::size_t>(id)]; };
  if (ids.size() > 1 && fault_seeded("F123", kHost)) ids.back() = ids.front();
  if (ids.size() < logits.size()) {
    std::int32_t next = -1;  // The best that was not chosen.
    for (std::int32_t id = 0; id < num_experts; ++id) {
      if (std::ranges::find(ids, id) != ids.end()) continue;
      if (next < 0 || logit(id) > logit(next)) next = id;
    }
    const bool near = static_cast<double>(logit(ids.back()) - logit(next)) < kNearTie;
    if (near && fault_seeded("F114", kHost)) ids.back() = next;
  }
  if (num_experts > 1 && fault_seeded("F30", kHost)) ids.back() = (ids.back() + 1) % num_experts;
  if (num_experts > 1 && fault_seeded("F31", kHost)) ids.front() = (ids.front() + 1) % num_experts;
}

template <typename Real>
void edit_weights(std::span<Real> weights) {
  constexpr FaultHost kHost = kFaultHostOf<Real>;
  const std::size_t k = weights.size();
  if (fault_seeded("F35", kHost)) weights.back() *= 2;
  if (fault_seeded("F36", kHost)) weights.front() *= Real{1.1f};
  if (fault_seeded("F37", kHost)) {
    for (Real& weight : weights) weight *= Real{1.05f};
  }
  if (k < 2) return;
  if (weights.front() != weights.back()) {
    if (fault_seeded("F32", kHost)) std::ranges::reverse(weights);
    if (fault_seeded("F34", kHost)) {
      const Real sum = std::accumulate(weights.begin(), weights.end(), Real{0});
      std::ranges::fill(weights, sum / static_cast<Real>(k));
    }
  }
  if (weights[k - 2] != weights[k - 1] && fault_seeded("F33", kHost)) {
    std::swap(weights[k - 2], weights[k - 1]);
  }
  if (weights.back() != 0 && fault_seeded("F29", kHost)) weights.back() = 0;
  if (fault_seeded("F120", kHost)) {
    const Real rest = std::accumulate(weights.begin() + 1, weights.end(), Real{0});
    const Real sum = rest + weights.front();
    weights.front() = 0;
    for (Real& weight : weights) weight *= sum / rest;
  }
}

template <typename Real>
void round_logits(std::span<Real> logits) {
  constexpr FaultHost kHost = kFaultHostOf<Real>;
  if (!fault_armed("F38", kHost)) return;
  for (Real& logit : logits) {
    const auto rounded =
        static_cast<Real>(float_from_bfloat16(bfloat16_from_float(static_cast<float>(logit))));
    if (rounded != logit && fault_seeded("F38", kHost)) logit = rounded;
  }
}

template <typename Real>
bool weights_of_rounded_logits(std::span<const Real> logits, bool norm_topk_prob,
                               std::span<const std::int32_t> ids, std::span<Real> weights) {
  std::vector<Real> rounded(logits.begin(), logits.end());
  round_logits<Real>(rounded);
  if (std::ranges::equal(logits, rounded)) return false;
  // Rounding them again changes nothing, so this call is the last.
  return routing_weights<Real>(rounded, norm_topk_prob, ids, weights).has_value();
}

template bool route_bad_input(std::span<const double>, bool, std::span<std::int32_t>,
                              std::span<double>);
template bool route_bad_input(std::span<const float>, bool, std::span<std::int32_t>,
                              std::span<float>);
template void edit_ids(std::span<const double>, std::span<std::int32_t>);
template void edit_ids(std::span<const float>, std::span<std::int32_t>);
template void edit_weights(std::span<double>);
template void edit_weights(std::span<float>);
template void round_logits(std::span<double>);
template void round_logits(std::span<float>);
template bool weights_of_rounded_logits(std::span<const double>, bool,
                                        std::span<const std::int32_t>, std::span<double>);
template bool weights_of_rounded_logits(std::span<const float>, bool, std::span<const std::int32_t>,
                                        std::span<float>);

}  // namespace refute::faulty
