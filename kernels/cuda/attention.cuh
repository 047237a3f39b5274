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
constexpr int kSharedScores = 8192;
// Elements of a tile of values, and how many are on their way to shared memory at a time.
constexpr int kValueTile = 4096;
constexpr int kValueStages = 4;

// Where a head works, in shared memory but for long sequences' scores.
struct AttentionPlace {
  float* lanes;          // [kLanes]
  float* warps;          // [kAttentionThreads / kWarp]
  std::uint16_t* tiles;  // [kValueStages][kValueTile], 16-byte aligned
  float* scores;         // [kv_len]
};

// Static shared memory of a head.
struct AttentionShared {
  alignas(16) std::uint16_t tiles[kValueStages][kValueTile];
  float lanes[kLanes];
  float warps[kAttentionThreads / kWarp];
};

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
};

// The head_dim that a kernel is compiled for, or 0 and the one it is called with.
template <int kHeadDim>
struct HeadDim {
  int runtime;
  __device__ constexpr int value() const { return kHeadDim > 0 ? kHeadDim : runtime; }
};

constexpr int kScoresAtOnce = 8;  // Positions a warp works on.

// Halving trees of eight dot products at once: exchanging halves costs 9 shuffles instead of 40.
// The result of product u is in the threads with lane / 4 == u.
__device__ inline float halving_trees(float v[kScoresAtOnce], int lane) {
#pragma unroll
  for (int level = 0; level < 3; ++level) {
    const int h = 16 >> level;
    const int n = kScoresAtOnce / 2 >> level;
    const bool upper = (lane & h) != 0;
#pragma unroll
    for (int u = 0; u < n; ++u) {
      const float send = upper ? v[u] : v[u + n];
      v[u] = __fadd_rn(upper ? v[u + n] : v[u], __shfl_xor_sync(kAllLanes, send, h));
    }
  }
  float a = v[0];
#pragma unroll
  for (int h = 2; h > 0; h /= 2) a = __fadd_rn(a, __shfl_xor_sync(kAllLanes, a, h));
  return a;
}

// The dot products of q with kScoresAtOnce rows; the result of row u is in the threads with lane /
// 4
// == u. Element i belongs to lane i % 128 of kernels/matmul.h: a thread holds four of those.
template <int kHeadDim>
__device__ inline float row_dots(const float* q, HeadDim<kHeadDim> head_dim,
                                 const std::uint16_t* const rows[kScoresAtOnce], int lane) {
  float lanes[kScoresAtOnce][4] = {};
  if constexpr (kHeadDim > 0 && kHeadDim % kLanes == 0) {
#pragma unroll
    for (int c = 0; c < kHeadDim; c += kWarp) {
      const float q_at = q[c + lane];
#pragma unroll
      for (int u = 0; u < kScoresAtOnce; ++u) {
        float& sum = lanes[u][c / kWarp % 4];
        sum = __fmaf_rn(from_half_bits(rows[u][c + lane]), q_at, sum);
      }
    }
  } else {
    for (int first = 0; first < head_dim.value(); first += kLanes) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int at = first + kWarp * j + lane;
        if (at >= head_dim.value()) continue;
        for (int u = 0; u < kScoresAtOnce; ++u) {
          lanes[u][j] = __fmaf_rn(from_half_bits(rows[u][at]), q[at], lanes[u][j]);
        }
      }
    }
  }
  float sums[kScoresAtOnce];
#pragma unroll
  for (int u = 0; u < kScoresAtOnce; ++u) {
    sums[u] = __fadd_rn(__fadd_rn(lanes[u][0], lanes[u][2]), __fadd_rn(lanes[u][1], lanes[u][3]));
  }
  return halving_trees(sums, lane);
}

// scores[s] = (q . key(s)) * scale; q [head_dim] in shared memory.
template <int kHeadDim>
__device__ inline void attention_scores(const float* q, HeadDim<kHeadDim> head_dim,
                                        const HeadCache& cache, float scale, float* scores) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  constexpr int kWarps = kAttentionThreads / kWarp;
  const std::uint16_t* rows[kScoresAtOnce];
  for (int first = kScoresAtOnce * warp; first < cache.stored; first += kScoresAtOnce * kWarps) {
#pragma unroll
    for (int u = 0; u < kScoresAtOnce; ++u) {
      const int s = min(first + u, cache.stored - 1);
      rows[u] = cache.k + static_cast<std::size_t>(s) * cache.stride;
    }
    const float dot = row_dots(q, head_dim, rows, lane);
    const int s = first + lane / 4;
    if (lane % 4 == 0 && s < cache.stored) scores[s] = __fmul_rn(dot, scale);
  }
  if (cache.stored < cache.kv_len && warp == kWarps - 1) {
#pragma unroll
    for (int u = 0; u < kScoresAtOnce; ++u) rows[u] = cache.last_k;
    const float dot = row_dots(q, head_dim, rows, lane);
    if (lane == 0) scores[cache.kv_len - 1] = __fmul_rn(dot, scale);
  }
}

// scores[s] = exp32(scores[s] - maximum); returns their sum in the 128-lane order, to all threads.
// Barriers before and behind.
__device__ inline float attention_softmax(const AttentionPlace& place, int kv_len) {
  const int i = static_cast<int>(threadIdx.x);
  const int lane = i % kWarp;
  constexpr int kWarps = kAttentionThreads / kWarp;
  __syncthreads();
  float max = __int_as_float(0xff800000);
  for (int s = i; s < kv_len; s += kAttentionThreads) max = fmaxf(max, place.scores[s]);
#pragma unroll
  for (int h = 16; h > 0; h /= 2) max = fmaxf(max, __shfl_xor_sync(kAllLanes, max, h));
  if (lane == 0) place.warps[i / kWarp] = max;
  __syncthreads();
#pragma unroll
  for (int w = 0; w < kWarps; ++w) max = fmaxf(max, place.warps[w]);
  for (int s = i; s < kv_len; s += kAttentionThreads) {
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

// The values cut into tiles of `rows` positions: columns [column, column + width).
template <int kHeadDim>
struct ValueTiles {
  HeadDim<kHeadDim> head_dim;
  int column;

  __device__ int width() const { return min(head_dim.value() - column, kAttentionThreads); }
  __device__ int rows() const { return kValueTile / width(); }
  __device__ bool wide() const { return head_dim.value() % 8 == 0; }  // All is 16-byte aligned.
};

// Starts the copy of the stored rows of tile `index`, where there are some.
template <int kHeadDim>
__device__ inline void copy_values(const HeadCache& cache, const ValueTiles<kHeadDim>& tiles,
                                   int index, std::uint16_t* ring) {
  const int first = index * tiles.rows();
  if constexpr (kHeadDim > 0) {
    // A tile is 16 bytes a thread.
    static_assert(kValueTile == 8 * kAttentionThreads && kAttentionThreads * 8 % kHeadDim == 0);
    constexpr int kUnits = kHeadDim / 8;
    const int item = static_cast<int>(threadIdx.x);
    const int s = first + item / kUnits;
    if (s < cache.stored) {
      __pipeline_memcpy_async(
          ring + index % kValueStages * kValueTile + 8 * item,
          cache.v + static_cast<std::size_t>(s) * cache.stride + item % kUnits * 8, 16);
    }
    __pipeline_commit();
    return;
  }
  const int rows = min(tiles.rows(), cache.stored - first);
  const int width = tiles.width();
  const std::uint16_t* from =
      cache.v + static_cast<std::size_t>(first) * cache.stride + tiles.column;
  std::uint16_t* const tile = ring + index % kValueStages * kValueTile;
  if (tiles.wide()) {
    const int units = width / 8;
    for (int item = static_cast<int>(threadIdx.x); item < rows * units; item += kAttentionThreads) {
      const int r = item / units;
      const int c = item % units * 8;
      __pipeline_memcpy_async(tile + r * width + c,
                              from + static_cast<std::size_t>(r) * cache.stride + c, 16);
    }
  } else {
    for (int item = static_cast<int>(threadIdx.x); item < rows * width; item += kAttentionThreads) {
      const int r = item / width;
      tile[item] = from[static_cast<std::size_t>(r) * cache.stride + item % width];
    }
  }
  __pipeline_commit();
}

// Puts a last row that is not stored to its place, if that is in tile `index`.
template <int kHeadDim>
__device__ inline void put_last_value(const HeadCache& cache, const ValueTiles<kHeadDim>& tiles,
                                      int index, std::uint16_t* ring) {
  const int last = cache.kv_len - 1;
  if (cache.stored == cache.kv_len || last / tiles.rows() != index) return;
  const int width = tiles.width();
  std::uint16_t* const to = ring + index % kValueStages * kValueTile + last % tiles.rows() * width;
  for (int c = static_cast<int>(threadIdx.x); c < width; c += kAttentionThreads) {
    to[c] = cache.last_v[tiles.column + c];
  }
}

// Starts the copies that attention_values waits for first.
template <int kHeadDim>
__device__ inline void start_values(const HeadCache& cache, const ValueTiles<kHeadDim>& tiles,
                                    std::uint16_t* ring) {
  for (int t = 0; t < kValueStages - 1; ++t) copy_values(cache, tiles, t, ring);
}

// y[i] = (fma chain over ascending s of scores[s] * value(s)[i]) / denominator, i < head_dim; the
// result of column i goes to emit(i, y). Barriers around every tile. start_values has been called
// for column 0.
template <int kHeadDim, typename Emit>
__device__ inline void attention_values(const AttentionPlace& place, const HeadCache& cache,
                                        HeadDim<kHeadDim> head_dim, float denominator,
                                        const Emit& emit) {
  const int i = static_cast<int>(threadIdx.x);
  for (int column = 0; column < head_dim.value(); column += kAttentionThreads) {
    const ValueTiles<kHeadDim> tiles{head_dim, column};
    if (column > 0) start_values(cache, tiles, place.tiles);
    for (int t = 0; t < kValueStages - 1; ++t) put_last_value(cache, tiles, t, place.tiles);
    const int width = tiles.width();
    const int tile_rows = tiles.rows();
    const int count = (cache.kv_len + tile_rows - 1) / tile_rows;
    float sum = 0.0f;
    for (int t = 0; t < count; ++t) {
      __pipeline_wait_prior(kValueStages - 2);
      // The tile is there for all, and nobody reads the one that the next copy replaces.
      __syncthreads();
      copy_values(cache, tiles, t + kValueStages - 1, place.tiles);
      put_last_value(cache, tiles, t + kValueStages - 1, place.tiles);
      if (i < width) {
        const std::uint16_t* tile = place.tiles + t % kValueStages * kValueTile + i;
        const float* scores = place.scores + t * tile_rows;
        const int rows = min(tile_rows, cache.kv_len - t * tile_rows);
        int r = 0;
        for (; r + 16 <= rows; r += 16) {
          // All loads before the chain that is the contract's order.
          float values[16];
          float terms[16];
#pragma unroll
          for (int u = 0; u < 16; ++u) {
            values[u] = from_half_bits(tile[(r + u) * width]);
            terms[u] = scores[r + u];
          }
#pragma unroll
          for (int u = 0; u < 16; ++u) sum = __fmaf_rn(terms[u], values[u], sum);
        }
        for (; r < rows; ++r) sum = __fmaf_rn(scores[r], from_half_bits(tile[r * width]), sum);
      }
    }
    __pipeline_wait_prior(0);
    __syncthreads();
    if (i < width) emit(column + i, __fdiv_rn(sum, denominator));
  }
}

}  // namespace
}  // namespace refute::cuda
