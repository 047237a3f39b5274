// Drawn inputs of one attention call.
#pragma once

#include <cstddef>

#include "engine/backend.h"
#include "falsifiers/property.h"
#include "kernels/attention.h"
#include "kernels/matrix.h"

namespace refute {

// q is float32 of standard deviation 1; k and v hold float16 values, so that a float16 cache rounds
// nothing; there are rows behind the visible ones.
struct AttentionCase {
  AttentionShape shape;
  std::size_t first_position = 0;
  Matrix<double> q, k, v;

  Result<Matrix<double>> run(const Backend& backend) const {
    return backend.attention(shape, q.view(), k.view(), v.view(), first_position);
  }
  // The column of v that column i of the output averages.
  std::size_t value_column(std::size_t i) const;
  // Keeps the first `num_tokens` rows of q, at `position`.
  void keep_tokens(std::size_t num_tokens, std::size_t position);
};

AttentionCase draw_attention(PropertyCase& property_case);

}  // namespace refute
