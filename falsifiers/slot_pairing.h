// Two runs may rank the same experts differently: what belongs to the same expert, and which tokens
// take other ones.
#pragma once

#include <cstddef>

#include "kernels/matrix.h"

namespace refute {

// The candidate's values, one per rank [num_tokens, k] or one row per rank [num_tokens * k,
// columns], in the order in which the reference ranks the same experts. Experts that the reference
// does not take fill what is left, in their order. Ids: [num_tokens, k] on both sides.
Matrix<double> in_reference_order(const Matrix<double>& values, bool rows_of_slots,
                                  const Matrix<double>& reference_ids,
                                  const Matrix<double>& candidate_ids);

// Tokens whose ids differ as sets; the first of them, where there is one, in `first_token`.
std::size_t count_other_sets(const Matrix<double>& a, const Matrix<double>& b,
                             std::size_t* first_token);

}  // namespace refute
