// Causal grouped-query attention. Contract: kernels/attention.h.
//
// Grid: (heads, tokens). Block: 512 threads. Shared: 33 KiB and 4 bytes a position (up to 8192
// positions; longer sequences keep their scores in global scratch).
// Moves: kv_len * head_dim * 4 bytes a head, from the second-level cache where heads share them.
// Numerics: float32 against float16; bitwise equal to cpu::attention. The chain of each output
// column over all positions is sequential by contract: 4 cycles a position at least.
#include <cmath>

#include "kernels/check.h"
#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ops.h"

namespace refute::cuda {
namespace {

// q, y [num_tokens, heads * head_dim]; k, v rows of `stride`; scratch [tokens, heads, capacity] or
// null, when scores are in dynamic shared memory.
template <int kHeadDim>
__global__ void __launch_bounds__(kAttentionThreads)
    attention_kernel(const float* q, const std::uint16_t* k, const std::uint16_t* v,
                     const std::int32_t* position, int first_token, int group_size,
                     HeadDim<kHeadDim> head_dim, std::size_t stride, float scale,
                     std::size_t capacity, float* scratch, float* y) {
  __shared__ AttentionShared shared;
  extern __shared__ float dynamic[];  // head_dim of q, then scores
  const int size = head_dim.value();
  const std::size_t t = static_cast<std::size_t>(first_token) + blockIdx.y;
  const std::size_t heads = gridDim.x;
  const std::size_t at = (t * heads + blockIdx.x) * static_cast<std::size_t>(size);
  const auto kv_offset = static_cast<std::size_t>(static_cast<int>(blockIdx.x) / group_size * size);
  const int kv_len = *position + static_cast<int>(t) + 1;
  const HeadCache cache{k + kv_offset, v + kv_offset, nullptr, nullptr, stride, kv_len, kv_len};
  AttentionPlace place{shared.lanes, shared.warps, shared.tiles[0], dynamic + size};
  if (scratch != nullptr) {
    place.scores = scratch + (blockIdx.y * heads + blockIdx.x) * capacity;
  }
  for (int i = static_cast<int>(threadIdx.x); i < size; i += kAttentionThreads) {
    dynamic[i] = q[at + i];
  }
  start_values(cache, ValueTiles<kHeadDim>{head_dim, 0}, place.tiles);
  __syncthreads();
  attention_scores(dynamic, head_dim, cache, scale, place.scores);
  const float denominator = attention_softmax(place, kv_len);
  attention_values(place, cache, head_dim, denominator,
                   [&](int i, float value) { y[at + i] = value; });
}

// Tokens that share the scratch at a time.
constexpr std::size_t kScratchTokens = 16;

}  // namespace

std::size_t attention_scratch(const AttentionShape& shape, std::size_t capacity) {
  if (capacity <= kSharedScores) return 0;
  return kScratchTokens * shape.num_attention_heads * capacity;
}

void attention(const Stream& stream, const AttentionShape& shape, const float* q,
               const std::uint16_t* k, const std::uint16_t* v, const std::int32_t* position,
               std::size_t num_tokens, std::size_t capacity, float* scratch, float* y) {
  CHECK(shape.num_key_value_heads > 0);
  CHECK(shape.num_attention_heads % shape.num_key_value_heads == 0);
  CHECK(shape.head_dim <= kMaxHeadDim);
  const bool in_shared = attention_scratch(shape, capacity) == 0;
  CHECK(in_shared || scratch != nullptr);
  const float scale = 1.0f / std::sqrt(static_cast<float>(shape.head_dim));
  const std::size_t shared = (shape.head_dim + (in_shared ? capacity : 0)) * sizeof(float);
  const std::size_t at_a_time = in_shared ? 32768 : kScratchTokens;
  for (std::size_t first = 0; first < num_tokens; first += at_a_time) {
    const std::size_t tokens = num_tokens - first < at_a_time ? num_tokens - first : at_a_time;
    const dim3 grid(static_cast<unsigned>(shape.num_attention_heads),
                    static_cast<unsigned>(tokens));
    const Launch launch{grid, dim3(kAttentionThreads), shared, false, true};
    const auto with = [&](auto kernel, auto head_dim) {
      launch(stream, kernel, q, k, v, position, static_cast<int>(first),
             static_cast<int>(shape.num_attention_heads / shape.num_key_value_heads), head_dim,
             shape.key_value_size(), scale, capacity, in_shared ? nullptr : scratch, y);
    };
    const auto head_dim = static_cast<int>(shape.head_dim);
    if (head_dim == 128) {
      with(attention_kernel<128>, HeadDim<128>{head_dim});
    } else {
      with(attention_kernel<0>, HeadDim<0>{head_dim});
    }
  }
}

}  // namespace refute::cuda
