// Causal grouped-query attention. Contract: kernels/attention.h.
//
// Grid: (heads, tokens). Block: 128 threads. Shared: 4 bytes an element of a head.
// Moves: kv_len * head_dim * 4 bytes a head, from the second-level cache where heads share them.
// Numerics: float32 against float16; bitwise equal to cpu::attention.
#include "kernels/cuda/attention.cuh"

#include <cmath>

#include "kernels/check.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ops.h"

namespace refute::cuda {
namespace {

// q, y [num_tokens, heads * head_dim]; k, v rows of `stride`
template <int kColumns>
__global__ void __launch_bounds__(kAttentionThreads)
    attention_kernel(const float* q, const std::uint16_t* k, const std::uint16_t* v,
                     const std::int32_t* position, int first_token, int group_size, int head_dim,
                     std::size_t stride, float scale, float* y) {
  extern __shared__ float query[];  // [head_dim]
  const std::size_t t = static_cast<std::size_t>(first_token) + blockIdx.y;
  const std::size_t at = (t * gridDim.x + blockIdx.x) * static_cast<std::size_t>(head_dim);
  const auto offset =
      static_cast<std::size_t>(static_cast<int>(blockIdx.x) / group_size * head_dim);
  const int kv_len = *position + static_cast<int>(t) + 1;
  const HeadCache cache{k + offset, v + offset, nullptr, nullptr, stride, kv_len, kv_len};
  for (int i = static_cast<int>(threadIdx.x); i < head_dim; i += kAttentionThreads) {
    query[i] = q[at + static_cast<std::size_t>(i)];
  }
  __syncthreads();
  attention_head<kColumns>(query, cache, head_dim, scale, [&](int i, float value) {
    y[at + static_cast<std::size_t>(i)] = value;
  });
}

}  // namespace

void attention(const Stream& stream, const AttentionShape& shape, const float* q,
               const std::uint16_t* k, const std::uint16_t* v, const std::int32_t* position,
               std::size_t num_tokens, float* y) {
  CHECK(shape.num_key_value_heads > 0);
  CHECK(shape.num_attention_heads % shape.num_key_value_heads == 0);
  CHECK(shape.head_dim <= kMaxHeadDim);
  constexpr std::size_t kAtATime = 32768;
  const float scale = 1.0f / std::sqrt(static_cast<float>(shape.head_dim));
  for (std::size_t first = 0; first < num_tokens; first += kAtATime) {
    const std::size_t tokens = num_tokens - first < kAtATime ? num_tokens - first : kAtATime;
    const Launch launch{
        dim3(static_cast<unsigned>(shape.num_attention_heads), static_cast<unsigned>(tokens)),
        dim3(kAttentionThreads), shape.head_dim * sizeof(float)};
    const auto with = [&](auto kernel) {
      launch(stream, kernel, q, k, v, position, static_cast<int>(first),
             static_cast<int>(shape.num_attention_heads / shape.num_key_value_heads),
             static_cast<int>(shape.head_dim), shape.key_value_size(), scale, y);
    };
    if (shape.head_dim <= kAttentionThreads) {
      with(attention_kernel<1>);
    } else {
      with(attention_kernel<kMaxHeadDim / kAttentionThreads>);
    }
  }
}

}  // namespace refute::cuda
