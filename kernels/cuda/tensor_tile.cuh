// Two weight tiles (tiles.h), 16 rows x 256 columns, as operands of the tensor cores' int8 product.
//
//   TensorTile<kType>::copy         tiles from global to shared memory, asynchronously, by a warp
//   TensorTile<kType>::row_scalars  what a row's blocks are scaled with, to shared memory
//   TensorTile<kType> w; w.load     this thread's share of both tiles
//   w.start(b), w.finish(b)         v[b] of kernels/matmul.h for 16 rows x 8 tokens
//
// One product takes exactly one block of 32 columns (Q6_K: one half), so that its int32 result is
// the exact dot of that block. It starts from 0; or, kShifted, from the bits of 1.5 * 2^23: as a
// float the result is then that number plus the dot, and one subtraction converts it. |dot| < 2^22:
// 16 * 15 * 127 * 32 (Q4_K, upper nibbles taken in place) and 4 * 32 * 127 * 16 (Q6_K). The factors
// 16 and 4 are taken out of the block's scale, which is exact, as d * scale and dmin * min are (11
// and at most 8 bits): so v[b] of Q4_K is fma(d * scale, dot, -(dmin * min * sum)), each product
// rounded once at most.
//
// Thread 4 g + p has, of A, rows g and g + 8, columns 4p .. 4p + 3 of both halves of a block; of B,
// the same columns of token g; of the product, those rows x tokens 2p and 2p + 1.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "kernels/cuda/fragment.cuh"
#include "kernels/cuda/numerics.cuh"
#include "kernels/cuda/prefill_rows.cuh"

namespace refute::cuda {
namespace {

constexpr int kMagicBits = 0x4b400000;
constexpr float kMagic = 12582912.0f;

// float(dot) of an accumulator that started from start_of<kShifted>().
template <bool kShifted>
constexpr int start_of() {
  return kShifted ? kMagicBits : 0;
}
template <bool kShifted>
__device__ inline float dot_of(int accumulator) {
  if constexpr (kShifted) return __fsub_rn(__int_as_float(accumulator), kMagic);
  return __int2float_rn(accumulator);
}

// Keeps a value in its register: the compiler would rather compute it again for every product.
__device__ inline void keep(unsigned& value) { asm volatile("" : "+r"(value)); }

// 32 columns, unsigned weights.
__device__ inline void product_32(const unsigned* a, unsigned b0, unsigned b1, int start, int* c) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%10, %10, %10, %10};"
      : "=r"(c[0]), "=r"(c[1]), "=r"(c[2]), "=r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "r"(start));
}
// 16 columns, signed weights.
__device__ inline void product_16(unsigned a0, unsigned a1, unsigned b, int start, int* c) {
  asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5}, {%6}, "
      "{%7, %7, %7, %7};"
      : "=r"(c[0]), "=r"(c[1]), "=r"(c[2]), "=r"(c[3])
      : "r"(a0), "r"(a1), "r"(b), "r"(start));
}

// In shared memory, the 16-byte piece of lane 4 r + j of a tile's array stands at place
// 4 r + (j ^ r / 2): the pieces of one j of all rows lie in different banks.
__device__ inline int piece_place(int lane) { return lane ^ (lane / 8); }

// A tile of kBytes, whose first kArrays arrays have a piece a lane, by a warp.
template <int kArrays, int kBytes>
__device__ inline void copy_tile(const std::uint8_t* tile, std::uint8_t* to, int lane) {
#pragma unroll
  for (int h = 0; h < kArrays; ++h) {
    copy_16(to + 512 * h + 16 * piece_place(lane), tile + 512 * h + 16 * lane);
  }
  constexpr int kRest = 512 * kArrays;
  if (lane < (kBytes - kRest) / 16) copy_16(to + kRest + 16 * lane, tile + kRest + 16 * lane);
}

template <TensorType kType>
struct TensorTile;

template <>
struct TensorTile<TensorType::kQ4_K> {
  static constexpr int kBytes = 1152;        // In global memory
  static constexpr int kSharedBytes = 1152;  // and in shared memory, a multiple of 64.
  unsigned a[8][4];
  float scale[2][8];    // d * scale of a block, row g, then row g + 8.
  float minimum[2][8];  // dmin * min

  __device__ static void copy(const std::uint8_t* tile, std::uint8_t* to, int lane) {
    copy_tile<2, kBytes>(tile, to, lane);
  }

  // In shared memory [16 rows][d * scale and dmin * min of 8 blocks, and 4 of padding].
  static constexpr int kScaleStride = 20;
  static constexpr int kScalars = 16 * kScaleStride;

  // Those of tile t by a warp.
  __device__ static void row_scalars(const std::uint8_t* tile, int t, float* scalars, int lane) {
    const int r = lane / 4;
    const int p = lane % 4;
    UnpackedWithMin header;
    header.unpack_header(*reinterpret_cast<const uint4*>(tile + 1024 + 16 * r), p);
    *reinterpret_cast<float4*>(scalars + kScaleStride * (8 * t + r) + 4 * p) = {
        __fmul_rn(header.d, __int2float_rn(header.scale[0])),
        __fmul_rn(header.dmin, __int2float_rn(header.min[0])),
        __fmul_rn(__fmul_rn(header.d, 0.0625f), __int2float_rn(header.scale[1])),
        __fmul_rn(header.dmin, __int2float_rn(header.min[1]))};
  }

  // tiles: both in shared memory; scalars: of the 16 rows.
  __device__ void load(const std::uint8_t* tiles, const float* scalars, int lane) {
    const int g = lane / 4;
    const int p = lane % 4;
    const int first = 16 * piece_place(4 * g) + 4 * p;
#pragma unroll
    for (int t = 0; t < 2; ++t) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float4 of =
            *reinterpret_cast<const float4*>(scalars + kScaleStride * (8 * t + g) + 4 * j);
        scale[t][2 * j] = of.x;
        minimum[t][2 * j] = of.y;
        scale[t][2 * j + 1] = of.z;
        minimum[t][2 * j + 1] = of.w;
      }
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const std::uint8_t* from = tiles + t * kSharedBytes + (first ^ (16 * j));
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const unsigned word = *reinterpret_cast<const unsigned*>(from + 512 * h);
          a[2 * j][2 * h + t] = word & 0x0f0f0f0fu;
          a[2 * j + 1][2 * h + t] = word & 0xf0f0f0f0u;
          keep(a[2 * j][2 * h + t]);
          keep(a[2 * j + 1][2 * h + t]);
        }
      }
    }
  }

  // The product of block b; b0, b1: activations of both of its halves.
  static constexpr int kProducts = 4;
  __device__ void start(int b, unsigned b0, unsigned b1, int from, int* c) const {
    product_32(a[b], b0, b1, from, c);
  }
  // sums: of tokens 2p and 2p + 1.
  template <bool kShifted>
  __device__ void finish(int b, const int* c, const float* sums, float* v) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      v[i] = __fmaf_rn(scale[i / 2][b], dot_of<kShifted>(c[i]),
                       -__fmul_rn(minimum[i / 2][b], sums[i % 2]));
    }
  }
};

template <>
struct TensorTile<TensorType::kQ6_K> {
  static constexpr int kBytes = 1680;
  static constexpr int kSharedBytes = 1680;
  unsigned a[8][4];
  float scale[2][16];  // Of 16 columns each.
  float d[2];          // A quarter of it.

  __device__ static void copy(const std::uint8_t* tile, std::uint8_t* to, int lane) {
    copy_tile<3, kBytes>(tile, to, lane);
  }

  // Every thread converts its rows' scales: shared memory for them would leave room for two blocks
  // a multiprocessor instead of three.
  static constexpr int kScalars = 0;
  __device__ static void row_scalars(const std::uint8_t* /*tile*/, int /*t*/, float* /*scalars*/,
                                     int /*lane*/) {}

  __device__ void load(const std::uint8_t* tiles, const float* /*scalars*/, int lane) {
    const int g = lane / 4;
    const int p = lane % 4;
    const int place = 16 * piece_place(4 * g);
#pragma unroll
    for (int t = 0; t < 2; ++t) {
      const std::uint8_t* tile = tiles + t * kSharedBytes;
      d[t] = __fmul_rn(from_half_bits(load_half(tile + 1664 + 2 * g)), 0.25f);
      const int4 scales = *reinterpret_cast<const int4*>(tile + 1536 + 16 * g);
      const int words[4] = {scales.x, scales.y, scales.z, scales.w};
#pragma unroll
      for (int j = 0; j < 4; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          scale[t][4 * j + i] =
              __int2float_rn(static_cast<std::int8_t>(static_cast<unsigned>(words[j]) >> (8 * i)));
        }
        const std::uint8_t* from = tile + (place ^ (16 * j));
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const unsigned word = *reinterpret_cast<const unsigned*>(from + 512 * h + 4 * p);
          // Two bits each of this word's elements of block 2j, then of block 2j + 1, at 4 (p % 2).
          const unsigned upper =
              *reinterpret_cast<const unsigned*>(from + 1024 + 8 * h + 4 * (p / 2)) >>
              (4 * (p % 2));
          // 4 * (q - 32) is 4 * q with the highest bit turned.
          a[2 * j][2 * h + t] =
              (((word << 2) & 0x3c3c3c3cu) | ((upper << 6) & 0xc0c0c0c0u)) ^ 0x80808080u;
          a[2 * j + 1][2 * h + t] =
              (((word >> 2) & 0x3c3c3c3cu) | ((upper << 4) & 0xc0c0c0c0u)) ^ 0x80808080u;
          keep(a[2 * j][2 * h + t]);
          keep(a[2 * j + 1][2 * h + t]);
        }
      }
    }
  }

  static constexpr int kProducts = 8;
  __device__ void start(int b, unsigned b0, unsigned b1, int from, int* c) const {
    product_16(a[b][0], a[b][1], b0, from, c);
    product_16(a[b][2], a[b][3], b1, from, c + 4);
  }
  template <bool kShifted>
  __device__ void finish(int b, const int* c, const float* /*sums*/, float* v) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      // Exact: 4 times an integer below 2^24.
      const float first = __fmul_rn(scale[i / 2][2 * b], dot_of<kShifted>(c[i]));
      const float sum = __fmaf_rn(scale[i / 2][2 * b + 1], dot_of<kShifted>(c[4 + i]), first);
      v[i] = __fmul_rn(d[i / 2], sum);
    }
  }
};

}  // namespace
}  // namespace refute::cuda
