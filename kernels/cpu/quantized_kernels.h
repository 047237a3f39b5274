// The loop of the quantized dot products of simd.h over super-blocks and tokens, written once over
// a Format. Included by the simd_*.cc files only; internal linkage: see simd.h.
//
// Format has: Weights, a super-block unpacked into registers or a small buffer; load(row, s,
// columns); dot(weights, activations) = S[s] of kernels/matmul.h.
#pragma once

#include <cstddef>

#include "kernels/cpu/simd.h"

namespace refute::cpu {
namespace {

// One pass over the row for kTokens tokens: a super-block is unpacked once for all of them.
template <typename Format, std::size_t kTokens>
void dot_tokens(const std::byte* row, std::size_t columns, const ActivationBlock* x, float* y,
                std::size_t y_stride) {
  const std::size_t super_blocks = (columns + 255) / 256;
  float sum[kTokens] = {};
  for (std::size_t s = 0; s < super_blocks; ++s) {
    const typename Format::Weights weights = Format::load(row, s, columns);
#pragma GCC unroll 4
    for (std::size_t t = 0; t < kTokens; ++t) {
      sum[t] += Format::dot(weights, x[t * super_blocks + s]);
    }
  }
#pragma GCC unroll 4
  for (std::size_t t = 0; t < kTokens; ++t) y[t * y_stride] = sum[t];
}

template <typename Format>
void dot_quantized(const std::byte* row, std::size_t columns, const ActivationBlock* x,
                   std::size_t num_tokens, float* y, std::size_t y_stride) {
  const std::size_t super_blocks = (columns + 255) / 256;
  std::size_t t = 0;
  for (; t + 4 <= num_tokens; t += 4) {
    dot_tokens<Format, 4>(row, columns, x + t * super_blocks, y + t * y_stride, y_stride);
  }
  x += t * super_blocks;
  y += t * y_stride;
  switch (num_tokens - t) {
    case 1:
      return dot_tokens<Format, 1>(row, columns, x, y, y_stride);
    case 2:
      return dot_tokens<Format, 2>(row, columns, x, y, y_stride);
    case 3:
      return dot_tokens<Format, 3>(row, columns, x, y, y_stride);
    default:
      return;
  }
}

}  // namespace
}  // namespace refute::cpu
