// One head of one token against the cache, by one thread block: shared by the plain attention
// kernel and the fused one of decoding. Formula and orders of summation: kernels/attention.h. And
// how kernels append to the cache.
#pragma once

#include <cuda_runtime.h>

#include "kernels/cuda/numerics.cuh"

namespace refute::cuda {
namespace {

constexpr int kAttentionThreads = 128;  // A thread a position of a chunk.
constexpr int kAttentionChunk = 128;
constexpr int kAttentionSubChunk = 32;
constexpr int kScoreLanes = 16;
constexpr float kLowestScore = -3.402823466e38f;

// Stores an element of a key or value to the cache. All that find one that is not finite write the
// same.
__device__ inline void store_cached(std::uint16_t half, DecodeState* state, std::uint16_t* to) {
  if (!is_finite_half(half)) state->cache_failed = 1;
  *to = half;
}

// What a head sees: kv_len rows of keys and of values, `stride` elements apart. The first `stored`
// of them are in k and v, which are all but perhaps the last: it may have just been computed.
struct HeadCache {
  const std::uint16_t* k;
  const std::uint16_t* v;
  const std::uint16_t* last_k;  // In shared memory; unused when all are stored.
  const std::uint16_t* last_v;
  std::size_t stride;
  int kv_len;
  int stored;

  __device__ const std::uint16_t* key(int s) const {
    return s < stored ? k + static_cast<std::size_t>(s) * stride : last_k;
  }
  __device__ const std::uint16_t* value(int s) const {
    return s < stored ? v + static_cast<std::size_t>(s) * stride : last_v;
  }
};

// m_j and l_j of a chunk.
struct ChunkTerms {
  float max;
  float sum;
};

// How what is merged so far, and the next chunk, are scaled.
struct MergeScales {
  float merged;
  float next;

  __device__ MergeScales(float merged_max, float next_max) {
    const float max = fmaxf(merged_max, next_max);
    merged = exp32_device(__fsub_rn(merged_max, max));
    next = exp32_device(__fsub_rn(next_max, max));
  }
  __device__ float merge(float so_far, float of_next) const {
    return __fmaf_rn(so_far, merged, __fmul_rn(of_next, next));
  }
};

// dot of q and a key in 16 lanes.
__device__ inline float score_dot(const float* q, const std::uint16_t* key, int head_dim) {
  float lanes[kScoreLanes] = {};
  const int whole = head_dim / kScoreLanes * kScoreLanes;
  for (int c = 0; c < whole; c += kScoreLanes) {
#pragma unroll
    for (int i = 0; i < kScoreLanes; ++i) {
      lanes[i] = __fmaf_rn(from_half_bits(key[c + i]), q[c + i], lanes[i]);
    }
  }
#pragma unroll
  for (int i = 0; i < kScoreLanes; ++i) {
    if (whole + i < head_dim) {
      lanes[i] = __fmaf_rn(from_half_bits(key[whole + i]), q[whole + i], lanes[i]);
    }
  }
#pragma unroll
  for (int h = kScoreLanes / 2; h > 0; h /= 2) {
#pragma unroll
    for (int i = 0; i < h; ++i) lanes[i] = __fadd_rn(lanes[i], lanes[i + h]);
  }
  return lanes[0];
}

// Y_j[column] of the chunk from `first` on; terms are its e[s].
__device__ inline float chunk_value(const float* terms, const HeadCache& cache, int first,
                                    int count, int column) {
  float total = -0.0f;  // Adding to it changes nothing, not even a sign.
  for (int begin = 0; begin < count; begin += kAttentionSubChunk) {
    const int end = min(begin + kAttentionSubChunk, count);
    float sum = 0.0f;
#pragma unroll 8
    for (int s = begin; s < end; ++s) {
      sum = __fmaf_rn(terms[s], from_half_bits(cache.value(first + s)[column]), sum);
    }
    total = __fadd_rn(total, sum);
  }
  return total;
}

// The largest of a full warp's values, in all its threads; NaN counts as nothing.
__device__ inline float warp_max(float value) {
#pragma unroll
  for (int h = 16; h > 0; h /= 2) value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, h));
  return value;
}

// y[i] for i < head_dim <= kColumns * kAttentionThreads, by a block of kAttentionThreads; the
// result of column i goes to emit(i, y), called by whole warps where head_dim is a multiple of 32.
// q [head_dim] in shared memory, behind a barrier. Barriers inside.
template <int kColumns, typename Emit>
__device__ inline void attention_head(const float* q, const HeadCache& cache, int head_dim,
                                      float scale, const Emit& emit) {
  __shared__ float terms[kAttentionChunk];
  __shared__ float warps[kAttentionThreads / kWarp];
  const int i = static_cast<int>(threadIdx.x);
  ChunkTerms merged{};
  float y[kColumns] = {};
  for (int first = 0; first < cache.kv_len; first += kAttentionChunk) {
    const int count = min(kAttentionChunk, cache.kv_len - first);
    float score = kLowestScore;
    if (i < count) score = __fmul_rn(score_dot(q, cache.key(first + i), head_dim), scale);
    const float of_warp = warp_max(score);
    if (i % kWarp == 0) warps[i / kWarp] = of_warp;
    __syncthreads();
    ChunkTerms next{kLowestScore, 0.0f};
#pragma unroll
    for (const float max : warps) next.max = fmaxf(next.max, max);
    terms[i] = i < count ? exp32_device(__fsub_rn(score, next.max)) : 0.0f;
    __syncthreads();
    next.sum = halving_tree(terms);
    const MergeScales scales(merged.max, next.max);
#pragma unroll
    for (int j = 0; j < kColumns; ++j) {
      const int column = i + kAttentionThreads * j;
      if (column >= head_dim) continue;
      const float of_chunk = chunk_value(terms, cache, first, count, column);
      y[j] = first == 0 ? of_chunk : scales.merge(y[j], of_chunk);
    }
    merged = first == 0
                 ? next
                 : ChunkTerms{fmaxf(merged.max, next.max), scales.merge(merged.sum, next.sum)};
    __syncthreads();
  }
#pragma unroll
  for (int j = 0; j < kColumns; ++j) {
    const int column = i + kAttentionThreads * j;
    if (column < head_dim) emit(column, __fdiv_rn(y[j], merged.sum));
  }
}

}  // namespace
}  // namespace refute::cuda
