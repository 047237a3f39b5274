// One head of one token against the cache, by one thread block: shared by the plain attention
// kernel and the fused one of decoding. Formula and orders of summation: kernels/attention.h.
#pragma once

#include <cuda_pipeline.h>
#include <cuda_runtime.h>

#include "kernels/cuda/numerics.cuh"

namespace refute::cuda {
namespace {

constexpr int kAttentionThreads = 512;
// Scores of up to so many positions stay in shared memory, longer sequences in global scratch.
constexpr int kSharedScores = 6144;
// Elements of a tile of values that is copied to shared memory while the tile before is summed.
constexpr int kValueTile = 4096;

// Where a head works, in shared memory but for long sequences' scores.
struct AttentionPlace {
  float* lanes;          // [kLanes]
  float* warps;          // [kAttentionThreads / kWarp]
  std::uint16_t* tiles;  // [2][kValueTile], 16-byte aligned
  float* scores;         // [kv_len]
};

// Static shared memory of a head.
struct AttentionShared {
  alignas(16) std::uint16_t tiles[2][kValueTile];
  float lanes[kLanes];
  float warps[kAttentionThreads / kWarp];
};

// What a head sees: kv_len rows of keys and of values, `stride` elements apart. The last row may
// stand somewhere else (it has just been computed).
struct HeadCache {
  const std::uint16_t* k;
  const std::uint16_t* v;
  const std::uint16_t* last_k;
  const std::uint16_t* last_v;
  std::size_t stride;
  int kv_len;

  __device__ const std::uint16_t* key(int s) const {
    return s == kv_len - 1 ? last_k : k + static_cast<std::size_t>(s) * stride;
  }
  __device__ const std::uint16_t* value(int s) const {
    return s == kv_len - 1 ? last_v : v + static_cast<std::size_t>(s) * stride;
  }
};

// Halving trees of four dot products at once: exchanging halves costs 6 shuffles instead of 20. The
// result of product u is in the threads with lane / 8 == u.
__device__ inline float halving_trees(const float v[4], int lane) {
  const bool upper = (lane & 16) != 0;
  const float send0 = upper ? v[0] : v[2];
  const float send1 = upper ? v[1] : v[3];
  float a = __fadd_rn(upper ? v[2] : v[0], __shfl_xor_sync(kAllLanes, send0, 16));
  const float b = __fadd_rn(upper ? v[3] : v[1], __shfl_xor_sync(kAllLanes, send1, 16));
  const bool second = (lane & 8) != 0;
  const float send = second ? a : b;
  a = __fadd_rn(second ? b : a, __shfl_xor_sync(kAllLanes, send, 8));
#pragma unroll
  for (int h = 4; h > 0; h /= 2) a = __fadd_rn(a, __shfl_xor_sync(kAllLanes, a, h));
  return a;
}

// scores[s] = (q . key(s)) * scale; q [head_dim] in shared memory.
__device__ inline void attention_scores(const float* q, int head_dim, const HeadCache& cache,
                                        float scale, float* scores) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  for (int first = 4 * warp; first < cache.kv_len; first += 4 * warps) {
    float lanes[4][4] = {};
    const std::uint16_t* rows[4];
#pragma unroll
    for (int u = 0; u < 4; ++u) rows[u] = cache.key(min(first + u, cache.kv_len - 1));
    for (int c = lane; c < head_dim; c += kLanes) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int at = c + kWarp * j;
        if (at >= head_dim) continue;
        const float q_at = q[at];
#pragma unroll
        for (int u = 0; u < 4; ++u) {
          lanes[u][j] = __fmaf_rn(from_half_bits(rows[u][at]), q_at, lanes[u][j]);
        }
      }
    }
    float sums[4];
#pragma unroll
    for (int u = 0; u < 4; ++u) {
      sums[u] = __fadd_rn(__fadd_rn(lanes[u][0], lanes[u][2]), __fadd_rn(lanes[u][1], lanes[u][3]));
    }
    const float dot = halving_trees(sums, lane);
    const int s = first + lane / 8;
    if (lane % 8 == 0 && s < cache.kv_len) scores[s] = __fmul_rn(dot, scale);
  }
}

// scores[s] = exp32(scores[s] - maximum); returns their sum in the 128-lane order, to all threads.
// Barriers before and behind.
__device__ inline float attention_softmax(const AttentionPlace& place, int kv_len) {
  const int i = static_cast<int>(threadIdx.x);
  const int lane = i % kWarp;
  const int threads = static_cast<int>(blockDim.x);
  __syncthreads();
  float max = __int_as_float(0xff800000);
  for (int s = i; s < kv_len; s += threads) max = fmaxf(max, place.scores[s]);
#pragma unroll
  for (int h = 16; h > 0; h /= 2) max = fmaxf(max, __shfl_xor_sync(kAllLanes, max, h));
  if (lane == 0) place.warps[i / kWarp] = max;
  __syncthreads();
  max = place.warps[0];
  for (int w = 1; w < threads / kWarp; ++w) max = fmaxf(max, place.warps[w]);
  for (int s = i; s < kv_len; s += threads) {
    place.scores[s] = exp32_device(__fsub_rn(place.scores[s], max));
  }
  __syncthreads();
  if (i < kLanes) {
    float sum = 0.0f;
    for (int s = i; s < kv_len; s += kLanes) sum = __fadd_rn(sum, place.scores[s]);
    place.lanes[i] = sum;
  }
  __syncthreads();
  return halving_tree(place.lanes);
}

// Copies `rows` value rows from position `first` on, columns [column, column + width), to `tile`.
// `wide`: everything is 16-byte aligned.
__device__ inline void copy_values(const HeadCache& cache, int first, int rows, int column,
                                   int width, bool wide, std::uint16_t* tile) {
  const int threads = static_cast<int>(blockDim.x);
  const int unit = wide ? 8 : 1;
  const int units = width / unit;
  for (int item = static_cast<int>(threadIdx.x); item < rows * units; item += threads) {
    const int r = item / units;
    const int c = item % units * unit;
    const int s = first + r;
    const std::uint16_t* from = cache.value(s) + column + c;
    std::uint16_t* const to = tile + r * width + c;
    if (wide && s != cache.kv_len - 1) {
      __pipeline_memcpy_async(to, from, 16);
    } else {
      for (int e = 0; e < unit; ++e) to[e] = from[e];
    }
  }
  __pipeline_commit();
}

// y[i] = (fma chain over ascending s of scores[s] * value(s)[i]) / denominator, i < head_dim; the
// result of column i goes to emit(i, y). A barrier before every tile.
template <typename Emit>
__device__ inline void attention_values(const AttentionPlace& place, const HeadCache& cache,
                                        int head_dim, float denominator, const Emit& emit) {
  const int i = static_cast<int>(threadIdx.x);
  const bool wide = head_dim % 8 == 0;
  for (int column = 0; column < head_dim; column += kAttentionThreads) {
    const int width = min(head_dim - column, kAttentionThreads);
    const int rows = min(kValueTile / width, cache.kv_len);
    float sum = 0.0f;
    copy_values(cache, 0, rows, column, width, wide, place.tiles);
    int buffer = 0;
    for (int first = 0; first < cache.kv_len; first += rows) {
      const int next = first + rows;
      const int count = min(rows, cache.kv_len - first);
      if (next < cache.kv_len) {
        copy_values(cache, next, min(rows, cache.kv_len - next), column, width, wide,
                    place.tiles + (1 - buffer) * kValueTile);
        __pipeline_wait_prior(1);
      } else {
        __pipeline_wait_prior(0);
      }
      __syncthreads();
      if (i < width) {
        const std::uint16_t* tile = place.tiles + buffer * kValueTile + i;
        const float* scores = place.scores + first;
#pragma unroll 8
        for (int r = 0; r < count; ++r) {
          sum = __fmaf_rn(scores[r], from_half_bits(tile[r * width]), sum);
        }
      }
      __syncthreads();
      buffer = 1 - buffer;
    }
    if (i < width) emit(column + i, __fdiv_rn(sum, denominator));
  }
}

}  // namespace
}  // namespace refute::cuda
