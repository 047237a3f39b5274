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
// float64 in the exact oracle. Fast backends: float32, the same bits everywhere, and nothing depends
// on how many tokens a call brings:
//
//   score[s] = (16-lane dot of q and k[s]) * float32(1 / sqrt(head_dim))
//     L[i] = fma chain over c = i, i + 16, i + 32, ... from 0         i = 0 .. 15
//     dot  = L[0] after L[i] += L[i + h] for h = 8, 4, 2, 1 and i < h
//   Positions go in chunks of 128, which need nothing from each other; chunk j has
//     m_j    = the largest score, at least -FLT_MAX
//     e[s]   = exp32(score[s] - m_j)
//     l_j    = sum of e[s] in the 128-lane order of kernels/matmul.h (plain additions)
//     Y_j[i] = ((Z_0 + Z_1) + Z_2) + Z_3, as many as there are, of 32 positions each:
//              Z_r = fma chain of e[s] * v[s][i] over ascending s, from 0
//   and they are merged in order: m, l, Y = m_0, l_0, Y_0, and for j = 1, 2, ...
//     M = max(m, m_j), a = exp32(m - M), b = exp32(m_j - M)
//     l = fma(l, a, l_j * b), Y[i] = fma(Y[i], a, Y_j[i] * b), m = M
//   y = Y / l.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/attention_shape.h"
#include "kernels/cpu/context.h"
#include "kernels/matrix.h"

namespace refute {

inline constexpr std::size_t kAttentionChunk = 128;     // Positions of a chunk,
inline constexpr std::size_t kAttentionSubChunk = 32;   // and of a chain of values.
inline constexpr std::size_t kScoreLanes = 16;

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
