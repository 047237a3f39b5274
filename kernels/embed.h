// Rows of the embedding: y[t] = dequantized row tokens[t] of embed_tokens.
//
//   embed_tokens  [vocab_size, hidden_size], any weight type      y  [num_tokens, hidden_size]
//
// Exact in float64; in float32 rounded once (quant/dequantize.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/matrix.h"
#include "kernels/quant/dequantize.h"

namespace refute {

// Precondition: every token in [0, vocab_size).
template <typename Real>
void embed(const WeightView& embed_tokens, std::span<const std::int32_t> tokens,
           MatrixView<Real> y) {
  CHECK(y.rows == tokens.size());
  CHECK(y.columns == embed_tokens.columns);
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    CHECK(tokens[t] >= 0 && static_cast<std::size_t>(tokens[t]) < embed_tokens.rows);
    dequantize_row(embed_tokens.type, embed_tokens.row(static_cast<std::size_t>(tokens[t])),
                   y.row(t));
  }
}

}  // namespace refute
