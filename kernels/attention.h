// Causal grouped-query attention against a cache of keys and values. Query head h reads key-value
// head h / (num_attention_heads / num_key_value_heads); the token at position p sees positions 0 ..
// p.
//
//   score[t, h, s] = (q[t, h] . k[s, g]) / sqrt(head_dim)      s <= position of t
//   y[t, h]        = sum over s of softmax_s(score) * v[s, g]
//
//   q, y  [num_tokens, num_attention_heads * head_dim]
//   k, v  [at least first_position + num_tokens, num_key_value_heads * head_dim], the rows of this
//         call's tokens already in
//
// The cache is float16 (rounded to nearest even) on the fast backends and in the emulated oracle,
// float64 in the exact oracle. cpu: float32; dot products in the 128-lane order of
// kernels/matmul.h, times the float32 1 / sqrt(head_dim); exact maximum; e = exp32(score -
// maximum); the denominator in the 128-lane order over s (plain additions); y = (fma chain of e[s]
// * v[s] over ascending s) / denominator. Nothing depends on how many tokens a call brings.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/attention_shape.h"
#include "kernels/cpu/context.h"
#include "kernels/matrix.h"

namespace refute {

// What one head of one token reads.
template <typename Real>
struct HeadRead {
  std::size_t kv_len;   // Positions seen.
  std::size_t kv_head;  // Head of keys and values.
  Real scale;           // Of the scores.
};

namespace oracle {

void attention(const AttentionShape& shape, MatrixView<const double> q, MatrixView<const double> k,
               MatrixView<const double> v, std::size_t first_position, MatrixView<double> y);

}  // namespace oracle

namespace cpu {

// k, v: float16 bit patterns.
void attention(const Context& context, const AttentionShape& shape, MatrixView<const float> q,
               MatrixView<const std::uint16_t> k, MatrixView<const std::uint16_t> v,
               std::size_t first_position, MatrixView<float> y);

}  // namespace cpu
}  // namespace refute
