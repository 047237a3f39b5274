// What router falsifiers compare a routing with, written apart from the router under test.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/forward.h"
#include "falsifiers/property.h"
#include "kernels/matrix.h"
#include "kernels/result.h"

namespace refute {

// The premise of every router property: the call succeeded, with ids and weights of shape
// [num_tokens, k] and every id in [0, num_experts) distinct within its token. Fails the case
// otherwise.
bool require_routing(PropertyCase& property_case, const Result<Routing<double>>& routing,
                     const Matrix<double>& logits, std::size_t k);

// The ids of the k largest logits by a stable descending sort. Precondition: k <= logits.size().
std::vector<std::int32_t> stable_top_k(std::span<const double> logits, std::size_t k);

// The probabilities of `ids` in float64, divided by their sum when `normalise`.
std::vector<double> closed_form_weights(std::span<const double> logits,
                                        std::span<const std::int32_t> ids, bool normalise);

// Ranks at which two lists of the same length differ, as a metric's value.
double count_differing(std::span<const std::int32_t> expected, std::span<const std::int32_t> found);

}  // namespace refute
