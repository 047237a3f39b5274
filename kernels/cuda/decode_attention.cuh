// Attention of one decoded token with head_dim 128: four heads of one group and a chunk of
// positions a block of 512 threads, and how chunks are merged. Formula and orders:
// kernels/attention.h.
#pragma once

#include <cuda_pipeline.h>

#include "kernels/cuda/attention.cuh"

namespace refute::cuda {
namespace {

// Norm of x [head_dim], a multiple of 32, and rope, in place, by one full warp; the table's row of
// the position: cosines, sines [head_dim / 2].
__device__ inline void norm_and_rope(const float* weight, const float* cosines, const float* sines,
                                     float epsilon, int head_dim, float* x) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const float sum =
      halving_tree(square_chain(x, lane, head_dim), square_chain(x, lane + 32, head_dim),
                   square_chain(x, lane + 64, head_dim), square_chain(x, lane + 96, head_dim));
  const float scale = rms_scale(sum, head_dim, epsilon);
  const int half = head_dim / 2;
  for (int i = lane; i < half; i += kWarp) {
    const float first = __fmul_rn(__fmul_rn(x[i], scale), weight[i]);
    const float second = __fmul_rn(__fmul_rn(x[half + i], scale), weight[half + i]);
    const float2 turned = rotate(first, second, cosines[i], sines[i]);
    x[i] = turned.x;
    x[half + i] = turned.y;
  }
  __syncwarp();
}

constexpr int kFastThreads = 512;
constexpr int kFastHeads = 4;
constexpr int kHeadDim = 128;
constexpr int kSubChunks = kAttentionChunk / kAttentionSubChunk;
// Keys are padded so that the four rows that a quarter of a warp reads lie in different banks.
constexpr int kKeyStride = kHeadDim + 16;

// The keys and values of a chunk, in shared memory.
struct ChunkRows {
  alignas(16) std::uint16_t k[kAttentionChunk * kKeyStride];
  alignas(16) std::uint16_t v[kAttentionChunk * kHeadDim];
};

// What four heads work with, in shared memory.
struct FourHeads {
  alignas(16) float q[kFastHeads][kHeadDim];
  alignas(16) float new_k[kHeadDim];
  alignas(16) float new_v[kHeadDim];  // Of the kernel of all layers.
  alignas(16) float terms[kFastHeads][kAttentionChunk];
  alignas(16) float parts[kSubChunks][kFastHeads][kHeadDim];  // Z_r.
  ChunkTerms chunk[kFastHeads];
};

// Starts the copies of the stored rows of chunk `chunk`.
__device__ inline void copy_chunk(const HeadCache& cache, int chunk, ChunkRows& rows) {
  constexpr int kUnits = kHeadDim / 8;  // Of 16 bytes, in a row.
  constexpr int kEach = kAttentionChunk * kUnits / kFastThreads;
  const int first = kAttentionChunk * chunk;
#pragma unroll
  for (int j = 0; j < kEach; ++j) {
    const int item = thread_anew() + kFastThreads * j;
    const int r = item / kUnits;
    const int c = 8 * (item % kUnits);
    if (first + r >= cache.stored) continue;
    const std::size_t at =
        static_cast<std::size_t>(first + r) * cache.stride + static_cast<std::size_t>(c);
    __pipeline_memcpy_async(rows.k + r * kKeyStride + c, cache.k + at, 16);
    __pipeline_memcpy_async(rows.v + r * kHeadDim + c, cache.v + at, 16);
  }
}

// Eight float16 as float32.
__device__ inline void widen(uint4 halves, float to[8]) {
  const unsigned words[4] = {halves.x, halves.y, halves.z, halves.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    to[2 * i] = from_half_bits(static_cast<std::uint16_t>(words[i] & 0xffffu));
    to[2 * i + 1] = from_half_bits(static_cast<std::uint16_t>(words[i] >> 16));
  }
}

// terms = the scores of a chunk's `count` positions, by the first 256 threads: two threads, each
// with 8 of the 16 lanes, work on two positions for two of the heads, so that what is read from
// shared memory is used twice.
__device__ inline void four_head_scores(FourHeads& work, const ChunkRows& rows, int count,
                                        float scale) {
  constexpr int kPositions = 2;
  const int i = static_cast<int>(threadIdx.x);
  if (i >= 256) return;
  const int half = i % 2;
  const int s = i / 2 % 64;  // And 64 behind it.
  const int head = 2 * (i / 128);
  float lanes[kPositions][2][8] = {};
  const std::uint16_t* const key = rows.k + s * kKeyStride + 8 * half;
#pragma unroll
  for (int j = 0; j < kHeadDim / kScoreLanes; ++j) {
    float q[2][8];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const auto* const from =
          reinterpret_cast<const float4*>(work.q[head + h] + kScoreLanes * j + 8 * half);
      const float4 a = from[0];
      const float4 b = from[1];
      q[h][0] = a.x, q[h][1] = a.y, q[h][2] = a.z, q[h][3] = a.w;
      q[h][4] = b.x, q[h][5] = b.y, q[h][6] = b.z, q[h][7] = b.w;
    }
#pragma unroll
    for (int n = 0; n < kPositions; ++n) {
      float wide[8];
      widen(*reinterpret_cast<const uint4*>(key + 64 * n * kKeyStride + kScoreLanes * j), wide);
#pragma unroll
      for (int h = 0; h < 2; ++h) {
#pragma unroll
        for (int c = 0; c < 8; ++c) lanes[n][h][c] = __fmaf_rn(wide[c], q[h][c], lanes[n][h][c]);
      }
    }
  }
#pragma unroll
  for (int n = 0; n < kPositions; ++n) {
    // This thread goes on with one of the heads, and all its lanes.
    float sum[8];
#pragma unroll
    for (int c = 0; c < 8; ++c) {
      const float kept = half == 0 ? lanes[n][0][c] : lanes[n][1][c];
      const float sent = half == 0 ? lanes[n][1][c] : lanes[n][0][c];
      sum[c] = __fadd_rn(kept, __shfl_xor_sync(kAllLanes, sent, 1));
    }
#pragma unroll
    for (int h = 4; h > 0; h /= 2) {
#pragma unroll
      for (int c = 0; c < h; ++c) sum[c] = __fadd_rn(sum[c], sum[c + h]);
    }
    if (s + 64 * n < count) work.terms[head + half][s + 64 * n] = __fmul_rn(sum[0], scale);
  }
}

// work.terms[1] = the scores of the first head, by all threads: four a position, each with 4 of the
// 16 lanes.
__device__ inline void one_head_scores(FourHeads& work, const ChunkRows& rows, int count,
                                       float scale) {
  static_assert(kFastThreads == 4 * kAttentionChunk);
  const int i = thread_anew();
  const int quarter = i % 4;
  const int s = i / 4;
  if (s / 8 * 8 >= count) return;  // Whole warps.
  const std::uint16_t* const key = rows.k + s * kKeyStride + 4 * quarter;
  const float* const query = work.q[0] + 4 * quarter;
  float lanes[4] = {};
#pragma unroll
  for (int j = 0; j < kHeadDim / kScoreLanes; ++j) {
    const float4 q = *reinterpret_cast<const float4*>(query + kScoreLanes * j);
    const uint2 word = *reinterpret_cast<const uint2*>(key + kScoreLanes * j);
    const float k[4] = {from_half_bits(static_cast<std::uint16_t>(word.x & 0xffffu)),
                        from_half_bits(static_cast<std::uint16_t>(word.x >> 16)),
                        from_half_bits(static_cast<std::uint16_t>(word.y & 0xffffu)),
                        from_half_bits(static_cast<std::uint16_t>(word.y >> 16))};
    lanes[0] = __fmaf_rn(k[0], q.x, lanes[0]);
    lanes[1] = __fmaf_rn(k[1], q.y, lanes[1]);
    lanes[2] = __fmaf_rn(k[2], q.z, lanes[2]);
    lanes[3] = __fmaf_rn(k[3], q.w, lanes[3]);
  }
#pragma unroll
  for (int h = 2; h > 0; h /= 2) {
#pragma unroll
    for (float& lane : lanes) lane = __fadd_rn(lane, __shfl_xor_sync(kAllLanes, lane, h));
  }
  const float dot = __fadd_rn(__fadd_rn(lanes[0], lanes[2]), __fadd_rn(lanes[1], lanes[3]));
  if (quarter == 0 && s < count) work.terms[1][s] = __fmul_rn(dot, scale);
}

// Scores become terms, by one full warp for its head.
__device__ inline void four_head_softmax(FourHeads& work, int head, int count) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  float score[4];
  float max = kLowestScore;
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const int s = lane + kWarp * j;
    score[j] = s < count ? work.terms[head][s] : kLowestScore;
    max = fmaxf(max, score[j]);
  }
  max = warp_max(max);
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const int s = lane + kWarp * j;
    score[j] = s < count ? exp32_device(__fsub_rn(score[j], max)) : 0.0f;
    work.terms[head][s] = score[j];
  }
  const float sum = halving_tree(score[0], score[1], score[2], score[3]);
  if (lane == 0) work.chunk[head] = {max, sum};
}

// parts = Z_r of four columns and two heads a thread, by the first 256 threads.
__device__ inline void four_head_values(FourHeads& work, const ChunkRows& rows, int count) {
  const int i = thread_anew();
  if (i >= 256) return;
  const int column = 4 * (i % 32);
  const int part = i / 32 % kSubChunks;
  const int head = 2 * (i / 128);
  const int first = kAttentionSubChunk * part;
  if (first >= count) return;
  float sum[2][4] = {};
  const auto add = [&](int s, float first_term, float second_term) {
    const uint2 word = *reinterpret_cast<const uint2*>(rows.v + s * kHeadDim + column);
    const float v[4] = {from_half_bits(static_cast<std::uint16_t>(word.x & 0xffffu)),
                        from_half_bits(static_cast<std::uint16_t>(word.x >> 16)),
                        from_half_bits(static_cast<std::uint16_t>(word.y & 0xffffu)),
                        from_half_bits(static_cast<std::uint16_t>(word.y >> 16))};
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      sum[0][c] = __fmaf_rn(first_term, v[c], sum[0][c]);
      sum[1][c] = __fmaf_rn(second_term, v[c], sum[1][c]);
    }
  };
  if (first + kAttentionSubChunk <= count) {
#pragma unroll 4
    for (int s = first; s < first + kAttentionSubChunk; s += 4) {
      const float4 a = *reinterpret_cast<const float4*>(work.terms[head] + s);
      const float4 b = *reinterpret_cast<const float4*>(work.terms[head + 1] + s);
      add(s, a.x, b.x);
      add(s + 1, a.y, b.y);
      add(s + 2, a.z, b.z);
      add(s + 3, a.w, b.w);
    }
  } else {
    for (int s = first; s < count; ++s) add(s, work.terms[head][s], work.terms[head + 1][s]);
  }
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    *reinterpret_cast<float4*>(&work.parts[part][head + h][column]) = {sum[h][0], sum[h][1],
                                                                       sum[h][2], sum[h][3]};
  }
}

// parts = Z_r of two columns of the first head a thread, by the first 256 threads.
__device__ inline void one_head_values(FourHeads& work, const ChunkRows& rows, int count) {
  const int i = thread_anew();
  if (i >= 256) return;
  const int column = 2 * (i % 64);
  const int part = i / 64;
  const int first = kAttentionSubChunk * part;
  if (first >= count) return;
  float sum[2] = {};
  // What is behind the last position is read, but not added.
  const auto add_all = [&](const auto& is_seen) {
#pragma unroll
    for (int n = 0; n < kAttentionSubChunk; n += 4) {
      const float4 of = *reinterpret_cast<const float4*>(work.terms[0] + first + n);
      const float terms[4] = {of.x, of.y, of.z, of.w};
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int s = first + n + j;
        const unsigned word = *reinterpret_cast<const unsigned*>(rows.v + s * kHeadDim + column);
        if (!is_seen(s)) continue;
        sum[0] =
            __fmaf_rn(terms[j], from_half_bits(static_cast<std::uint16_t>(word & 0xffffu)), sum[0]);
        sum[1] =
            __fmaf_rn(terms[j], from_half_bits(static_cast<std::uint16_t>(word >> 16)), sum[1]);
      }
    }
  };
  if (first + kAttentionSubChunk <= count) {
    add_all([](int) { return true; });
  } else {
    add_all([&](int s) { return s < count; });
  }
  *reinterpret_cast<float2*>(&work.parts[part][0][column]) = {sum[0], sum[1]};
}
// work.terms[1], scores of the first head, become its terms, by its first four warps: an
// exponential a thread.
__device__ inline void one_head_terms(FourHeads& work, int count) {
  const int i = thread_anew();
  const int lane = i % kWarp;
  float max = kLowestScore;
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const int s = lane + kWarp * j;
    if (s < count) max = fmaxf(max, work.terms[1][s]);
  }
  // As integers floats order as they do but for the negative ones, which are turned round.
  const int bits = __float_as_int(max);
  const int most = __reduce_max_sync(kAllLanes, bits ^ ((bits >> 31) & 0x7fffffff));
  max = __int_as_float(most ^ ((most >> 31) & 0x7fffffff));
  work.terms[0][i] = i < count ? exp32_device(__fsub_rn(work.terms[1][i], max)) : 0.0f;
  if (i == 0) work.chunk[0].max = max;
}
// Of one head as four_head_chunk of four.
__device__ inline void one_head_chunk(FourHeads& work, const ChunkRows& rows, int count,
                                      float scale) {
  const int warp = thread_anew() / kWarp;
  const int lane = thread_anew() % kWarp;
  one_head_scores(work, rows, count, scale);
  __syncthreads();
  if (warp < 4) one_head_terms(work, count);
  __syncthreads();
  one_head_values(work, rows, count);
  if (warp == 8) {
    const float* const terms = work.terms[0] + lane;
    const float sum = halving_tree(terms[0], terms[kWarp], terms[2 * kWarp], terms[3 * kWarp]);
    if (lane == 0) work.chunk[0].sum = sum;
  }
  __syncthreads();
}

// Z_r of all heads of a chunk, and its terms. work.q is there, behind a barrier; one behind, too.
__device__ inline void four_head_chunk(FourHeads& work, const ChunkRows& rows, int count,
                                       float scale) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  four_head_scores(work, rows, count, scale);
  __syncthreads();
  if (warp < kFastHeads) four_head_softmax(work, warp, count);
  __syncthreads();
  four_head_values(work, rows, count);
  __syncthreads();
}

// Y_j of the chunk, one column of one head.
__device__ inline float chunk_result(const FourHeads& work, int count, int head, int column) {
  float y = work.parts[0][head][column];
#pragma unroll
  for (int r = 1; r < kSubChunks; ++r) {
    if (kAttentionSubChunk * r < count) y = __fadd_rn(y, work.parts[r][head][column]);
  }
  return y;
}

// Results of chunks on their way to whoever merges them, in global memory.
struct Partials {
  float* scratch;  // [attention_scratch]
  int num_heads;
  int max_chunks;

  __device__ float* values(int head, int chunk) const {
    return scratch + static_cast<std::size_t>(head * max_chunks + chunk) * kHeadDim;
  }
  __device__ float2* terms(int head, int chunk) const {
    return reinterpret_cast<float2*>(scratch +
                                     static_cast<std::size_t>(num_heads * max_chunks) * kHeadDim) +
           head * max_chunks + chunk;
  }
  __device__ void store(const FourHeads& work, int first_head, int chunk, int head, int column,
                        float y) const {
    __stcg(values(first_head + head, chunk) + column, y);
    const ChunkTerms of = work.chunk[head];
    if (column == 0) __stcg(terms(first_head + head, chunk), float2{of.max, of.sum});
  }
};

// How what was merged before and this lane's chunk are scaled when chunks are merged in the order
// of lanes, by a full warp. chunk_max: m_j of the lane's chunk; max: the largest of the chunks
// before, and then of these, too.
__device__ inline MergeScales merge_scales_of(float chunk_max, float& max) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  // The largest of all chunks up to this lane's, and up to the one before.
  float running = fmaxf(max, chunk_max);
#pragma unroll
  for (int h = 1; h < kWarp; h *= 2) {
    const float other = __shfl_up_sync(kAllLanes, running, static_cast<unsigned>(h));
    if (lane >= h) running = fmaxf(running, other);
  }
  const float shifted = __shfl_up_sync(kAllLanes, running, 1);
  const MergeScales scales(lane == 0 ? max : shifted, chunk_max);
  max = __shfl_sync(kAllLanes, running, kWarp - 1);
  return scales;
}

// y of column `column`, from the partial results of all chunks, by full warps.
__device__ inline float merge_chunks(const Partials& partials, int head, int column,
                                     int num_chunks) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  float y = 0.0f;
  float sum = 0.0f;
  float max = kLowestScore;  // Of all chunks before the next 32.
  for (int first = 0; first < num_chunks; first += kWarp) {
    const int count = min(kWarp, num_chunks - first);
    const float2 mine =
        lane < count ? __ldcg(partials.terms(head, first + lane)) : float2{kLowestScore, 0.0f};
    const MergeScales scales = merge_scales_of(mine.x, max);
    constexpr int kAtOnce = 8;
    for (int begin = 0; begin < count; begin += kAtOnce) {
      float values[kAtOnce];
#pragma unroll
      for (int j = 0; j < kAtOnce; ++j) {
        if (begin + j < count) {
          values[j] = __ldcg(partials.values(head, first + begin + j) + column);
        }
      }
#pragma unroll
      for (int j = 0; j < kAtOnce; ++j) {
        MergeScales of = scales;
        of.merged = __shfl_sync(kAllLanes, scales.merged, begin + j);
        of.next = __shfl_sync(kAllLanes, scales.next, begin + j);
        const float next_sum = __shfl_sync(kAllLanes, mine.y, begin + j);
        if (begin + j >= count) continue;
        const bool is_first = first + begin + j == 0;
        y = is_first ? values[j] : of.merge(y, values[j]);
        sum = is_first ? next_sum : of.merge(sum, next_sum);
      }
    }
  }
  return __fdiv_rn(y, sum);
}

}  // namespace
}  // namespace refute::cuda
