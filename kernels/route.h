// The one routing function: which experts a token goes to, and with what weights.
//
//   probability = softmax(logits)                              [num_experts]
//   ids         = the k experts of the largest logits, descending, ties to the lowest id
//   weight[i]   = probability[ids[i]], divided by their sum when norm_topk_prob
//
// Softmax subtracts the maximum; its denominator, and the sum of the k weights, are added in the
// 128-lane order of kernels/matmul.h. float64 in the oracle with std::exp; float32 on the fast
// backends with exp32.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/result.h"

namespace refute {

// logits [num_experts]; ids, weights [k]. kInvalidShape unless 0 < k <= num_experts and ids and
// weights have the same size k; kNonFinite when a logit is NaN or Inf.
template <typename Real>
Result<void> route(std::span<const Real> logits, bool norm_topk_prob, std::span<std::int32_t> ids,
                   std::span<Real> weights);

// The second half of route: the weights of experts that are already chosen, each id in [0,
// num_experts). Same shapes and errors.
template <typename Real>
Result<void> routing_weights(std::span<const Real> logits, bool norm_topk_prob,
                             std::span<const std::int32_t> ids, std::span<Real> weights);

extern template Result<void> route(std::span<const double>, bool, std::span<std::int32_t>,
                                   std::span<double>);
extern template Result<void> route(std::span<const float>, bool, std::span<std::int32_t>,
                                   std::span<float>);
extern template Result<void> routing_weights(std::span<const double>, bool,
                                             std::span<const std::int32_t>, std::span<double>);
extern template Result<void> routing_weights(std::span<const float>, bool,
                                             std::span<const std::int32_t>, std::span<float>);

}  // namespace refute
