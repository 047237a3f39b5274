// Faults of choosing experts and their weights. Built for seeding faults only (kernels/faults.h).
#pragma once

#include <cstdint>
#include <span>

#include "kernels/faults.h"

namespace refute::faulty {

// Answers what route must refuse, and returns true: F97, F115 (a logit that is no finite number),
// F116 (more experts wanted than there are).
template <typename Real>
bool route_bad_input(std::span<const Real> logits, bool norm_topk_prob, std::span<std::int32_t> ids,
                     std::span<Real> weights);
// Changes the ids that route chose: F30, F31, F114, F123.
template <typename Real>
void edit_ids(std::span<const Real> logits, std::span<std::int32_t> ids);
// Changes weights that are complete: F29, F32 to F37, F120.
template <typename Real>
void edit_weights(std::span<Real> weights);
// Rounds logits to bfloat16 when F38 is seeded and that changes one.
template <typename Real>
void round_logits(std::span<Real> logits);
// The same in routing_weights: computes the weights and returns true.
template <typename Real>
bool weights_of_rounded_logits(std::span<const Real> logits, bool norm_topk_prob,
                               std::span<const std::int32_t> ids, std::span<Real> weights);

}  // namespace refute::faulty
