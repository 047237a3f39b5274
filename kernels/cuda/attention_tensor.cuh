// What the two kernels of attention on tensor cores share: attention_tensor.cu multiplies a warp at
// a time (mma), attention_hopper.cu a warpgroup (wgmma). Both have, of a warp's 16 rows, the same
// in the same threads.
//
// A warp has the 8 query heads of two tokens. Thread 4 g + p has, of its products, rows g and g +
// 8, that is head g of both tokens, and the columns 2p and 2p + 1 of every 8.
//
// Numerics: keys and values are exact. A query is q 2^n, as large as float16 takes, and the sum of
// two float16, which leaves 2^-23 of it; so are the exponentials, 2^14 for the largest. Products
// are exact and added up in float32 by the tensor cores, which truncate: so a chunk starts from
// zero, and float32 additions that round join chunks. Softmax is online: scores in units of log2,
// and what was added up is scaled down when a larger score appears. Chunks end at multiples of 64
// positions, so that a result depends on its token's row, keys and values alone, bit for bit.
#pragma once

#include <limits>

#include "kernels/cuda/attention_prefill.cuh"

namespace refute::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarp;
constexpr int kWarpTokens = 2;
constexpr int kTokens = kWarps * kWarpTokens;
constexpr int kRows = kGroup * kTokens;
constexpr int kChunk = 64;
constexpr int kRowPieces = kHeadDim / 8;  // Of 16 bytes.
constexpr int kTensorBytes = kChunk * kHeadDim * 2;
constexpr int kStageBytes = 2 * kTensorBytes;  // Keys, then values.
constexpr int kResultStride = kHeadDim + 4;
constexpr int kResultBytes = kRows * kResultStride * 4;
constexpr float kLog2e = 1.44269504088896340736f;
constexpr float kLargestExponent = 14.0f;  // Of an exponential, base 2.
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Two float16, the first in the lower half.
__device__ inline unsigned halves(float first, float second) {
  const __half2 pair = __floats2half2_rn(first, second);
  return *reinterpret_cast<const unsigned*>(&pair);
}
__device__ inline float2 floats(unsigned pair) {
  return __half22float2(*reinterpret_cast<const __half2*>(&pair));
}
// x = high + low, but for 2^-23 of it.
struct Split {
  unsigned high;
  unsigned low;
};
__device__ inline Split split(float first, float second) {
  const unsigned high = halves(first, second);
  const float2 rounded = floats(high);
  return {high, halves(__fsub_rn(first, rounded.x), __fsub_rn(second, rounded.y))};
}

__device__ inline float exp2_device(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Where a block is in its call.
struct BlockPlace {
  int kv_head;
  int first_token;
  const std::uint16_t* k;  // Of the head.
  const std::uint16_t* v;
  int before;   // Token t of the block sees before + t + 1 positions.
  int longest;  // Positions that its last token sees.

  __device__ explicit BlockPlace(const AttentionOperands& operands)
      : kv_head(static_cast<int>(blockIdx.x)),
        first_token(kTokens * static_cast<int>(gridDim.y - 1 - blockIdx.y)),
        k(operands.k + kHeadDim * kv_head),
        v(operands.v + kHeadDim * kv_head),
        before(*operands.position + first_token),
        longest(before + min(kTokens, operands.num_tokens - first_token)) {}
};

// A chunk's keys and values, asynchronously; positions that no token of the block sees as zeros.
// Piece u of position p, 16 bytes, goes to byte kPieceAt(p, u) of the keys, and of the values.
template <int (*kPieceAt)(int, int)>
__device__ inline void copy_chunk(const AttentionOperands& operands, const BlockPlace& place,
                                  int first, std::uint8_t* stage) {
  constexpr int kSteps = kChunk * kRowPieces / kThreads;
  const int u = static_cast<int>(threadIdx.x) % kRowPieces;
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    const int p = step * (kThreads / kRowPieces) + static_cast<int>(threadIdx.x) / kRowPieces;
    const bool seen = first + p < place.longest;
    const std::size_t at = static_cast<std::size_t>(seen ? first + p : 0) * operands.stride +
                           static_cast<std::size_t>(8 * u);
    copy_16_or_zeros(stage + kPieceAt(p, u), place.k + at, seen);
    copy_16_or_zeros(stage + kTensorBytes + kPieceAt(p, u), place.v + at, seen);
  }
}

// Launches with the kernel's shape.
inline void launch_attention(const Stream& stream, void (*kernel)(AttentionOperands),
                             std::size_t shared_bytes, const AttentionShape& shape,
                             const AttentionOperands& operands) {
  const dim3 grid(static_cast<unsigned>(shape.num_key_value_heads),
                  blocks_for(static_cast<std::size_t>(operands.num_tokens), kTokens));
  Launch{grid, dim3(kThreads), shared_bytes, false, true}(stream, kernel, operands);
}

struct WarpRows {
  unsigned q_high[kHeadDim / 16][4];  // As the products' left operand.
  unsigned q_low[kHeadDim / 16][4];
  float factor[2];   // From products to scores in units of log2.
  float largest[2];  // Product so far,
  float shift[2];    // and what is added to all scores for it.
  float sum[2];      // This thread's part of the exponentials.
  float y[kHeadDim / 8][4];

  __device__ void clear() {
#pragma unroll
    for (int t = 0; t < 2; ++t) {
      largest[t] = -kInfinity;
      shift[t] = kInfinity;
      sum[t] = 0.0f;
    }
#pragma unroll
    for (int n = 0; n < kHeadDim / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) y[n][i] = 0.0f;
    }
  }
};

// Of the warp's tokens those past the last are zeros.
__device__ inline void load_queries(const AttentionOperands& operands, int kv_head, int first_token,
                                    int lane, WarpRows& rows) {
  const int g = lane / 4;
  const int p = lane % 4;
#pragma unroll
  for (int t = 0; t < kWarpTokens; ++t) {
    float2 q[kHeadDim / 8];  // Columns 8 i + 2 p.
    const bool exists = first_token + t < operands.num_tokens;
    const float* const from =
        operands.q + operands.row_at(exists ? first_token + t : 0, kv_head, g) + 2 * p;
    unsigned max = 0;  // Floats without their signs are ordered as their bits.
#pragma unroll
    for (int i = 0; i < kHeadDim / 8; ++i) {
      q[i] = exists ? *reinterpret_cast<const float2*>(from + 8 * i) : float2{0.0f, 0.0f};
      max = ::max(max, __float_as_uint(q[i].x) & 0x7fffffffu);
      max = ::max(max, __float_as_uint(q[i].y) & 0x7fffffffu);
    }
    max = ::max(max, __shfl_xor_sync(kAllLanes, max, 1));
    max = ::max(max, __shfl_xor_sync(kAllLanes, max, 2));
    // 2^n with the largest in [2^14, 2^15); of queries below 2^-111, 2^125.
    const int exponent = ::max(static_cast<int>(max >> 23), 16);
    const float up = __uint_as_float(static_cast<unsigned>(127 + 14 + 127 - exponent) << 23);
    const float down = __uint_as_float(static_cast<unsigned>(exponent - 14) << 23);
    rows.factor[t] = __fmul_rn(__fmul_rn(operands.scale, kLog2e), down);
#pragma unroll
    for (int i = 0; i < kHeadDim / 8; ++i) {
      const Split of = split(__fmul_rn(q[i].x, up), __fmul_rn(q[i].y, up));
      rows.q_high[i / 2][2 * (i % 2) + t] = of.high;
      rows.q_low[i / 2][2 * (i % 2) + t] = of.low;
    }
  }
}

// What the warp's first token does not see, `last` being the last position that it does, and the
// second token one more. `first`: position of the chunk.
__device__ inline void mask(int first, int last, int lane, float (*s)[4]) {
  if (first + kChunk - 1 <= last) return;
#pragma unroll
  for (int n = 0; n < kChunk / 8; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int position = first + 8 * n + 2 * (lane % 4) + i % 2;
      if (position > last + i / 2) s[n][i] = -kInfinity;
    }
  }
}

// From products to exponentials, as the next product's left operand; old[t] is what was added up
// before is worth now.
__device__ inline void softmax(WarpRows& rows, const float (*s)[4], unsigned (*high)[4],
                               unsigned (*low)[4], float* old) {
#pragma unroll
  for (int t = 0; t < 2; ++t) {
    float max = rows.largest[t];
#pragma unroll
    for (int n = 0; n < kChunk / 8; ++n) max = fmaxf(max, fmaxf(s[n][2 * t], s[n][2 * t + 1]));
    max = fmaxf(max, __shfl_xor_sync(kAllLanes, max, 1));
    max = fmaxf(max, __shfl_xor_sync(kAllLanes, max, 2));
    rows.largest[t] = max;
    // Rounded down, so that no exponent is above the largest.
    const float shift = __fmaf_rd(-max, rows.factor[t], kLargestExponent);
    old[t] = exp2_device(__fsub_rn(shift, rows.shift[t]));
    rows.shift[t] = shift;
    float sum = 0.0f;
#pragma unroll
    for (int n = 0; n < kChunk / 8; ++n) {
      const float first = exp2_device(__fmaf_rn(s[n][2 * t], rows.factor[t], shift));
      const float second = exp2_device(__fmaf_rn(s[n][2 * t + 1], rows.factor[t], shift));
      sum = __fadd_rn(sum, __fadd_rn(first, second));
      const Split of = split(first, second);
      high[n / 2][2 * (n % 2) + t] = of.high;
      low[n / 2][2 * (n % 2) + t] = of.low;
    }
    rows.sum[t] = __fmaf_rn(rows.sum[t], old[t], sum);
  }
}

// The rows' results to shared memory [kRows][kResultStride].
__device__ inline void store_results(const WarpRows& rows, int warp, int lane,
                                     float (*results)[kResultStride]) {
#pragma unroll
  for (int t = 0; t < 2; ++t) {
    float sum = rows.sum[t];
    sum = __fadd_rn(sum, __shfl_xor_sync(kAllLanes, sum, 1));
    sum = __fadd_rn(sum, __shfl_xor_sync(kAllLanes, sum, 2));
    const float inverse = __frcp_rn(sum);
    float* const row = results[kGroup * (kWarpTokens * warp + t) + lane / 4] + 2 * (lane % 4);
#pragma unroll
    for (int n = 0; n < kHeadDim / 8; ++n) {
      *reinterpret_cast<float2*>(row + 8 * n) = {__fmul_rn(rows.y[n][2 * t], inverse),
                                                 __fmul_rn(rows.y[n][2 * t + 1], inverse)};
    }
  }
}

}  // namespace
}  // namespace refute::cuda
