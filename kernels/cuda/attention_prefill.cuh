// What both kernels of prefill's attention share: their shapes, their operands and their end.
#pragma once

#include <cmath>

#include "kernels/check.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/prefill_ops.h"
#include "kernels/cuda/prefill_rows.cuh"

namespace refute::cuda {
namespace {

constexpr int kHeadDim = 128;
constexpr int kGroup = 8;  // Query heads of a key-value head.

struct AttentionOperands {
  const float* q = nullptr;          // [num_tokens, num_heads * 128]
  const std::uint16_t* k = nullptr;  // Rows of `stride`.
  const std::uint16_t* v = nullptr;
  const std::int32_t* position = nullptr;  // Of the first token.
  int num_tokens = 0;
  int num_heads = 0;
  std::size_t stride = 0;
  float scale = 0.0f;
  float* y = nullptr;  // As q.
  TensorActivations quantized;

  // Of head `h` of the key-value head's query heads.
  __device__ std::size_t row_at(int token, int kv_head, int h) const {
    return (static_cast<std::size_t>(token) * static_cast<std::size_t>(num_heads) +
            static_cast<std::size_t>(kGroup * kv_head + h)) *
           kHeadDim;
  }
};

inline AttentionOperands attention_operands(const AttentionShape& shape, const float* q,
                                            const std::uint16_t* k, const std::uint16_t* v,
                                            const std::int32_t* position, std::size_t num_tokens,
                                            float* y, const TensorActivations& quantized) {
  CHECK(quantized.stride == shape.query_size());
  return {q,
          k,
          v,
          position,
          static_cast<int>(num_tokens),
          static_cast<int>(shape.num_attention_heads),
          shape.key_value_size(),
          1.0f / std::sqrt(static_cast<float>(kHeadDim)),
          y,
          quantized};
}

// Results of a block, row kGroup t + h that of head h of its token t, to y and quantized: a warp a
// row at a time.
template <int kThreads, int kRows, int kStride>
__device__ inline void store_heads(const AttentionOperands& to, const float (*results)[kStride],
                                   int kv_head, int first_token) {
  static_assert(kHeadDim == 4 * kWarp);
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
#pragma unroll 4
  for (int step = 0; step < kRows * kWarp / kThreads; ++step) {
    const int row = step * (kThreads / kWarp) + warp;
    const int t = first_token + row / kGroup;
    if (t >= to.num_tokens) break;
    const float4 value = *reinterpret_cast<const float4*>(&results[row][4 * lane]);
    *reinterpret_cast<float4*>(to.y + to.row_at(t, kv_head, row % kGroup) +
                               static_cast<std::size_t>(4 * lane)) = value;
    const float x[4] = {value.x, value.y, value.z, value.w};
    const int block = (kGroup * kv_head + row % kGroup) * (kHeadDim / 32) + lane / 8;
    quantize_tensor_quad(x, lane, t, block, to.quantized);
  }
}

}  // namespace
}  // namespace refute::cuda
