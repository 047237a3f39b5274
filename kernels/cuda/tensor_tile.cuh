// Two weight tiles (tiles.h), 16 rows x 256 columns, as operands of the tensor cores' int8 product.
//
//   TensorTile<kType>::copy(...)        tiles from global to shared memory, asynchronously, by a warp
//   TensorTile<kType>::row_scalars(...) what a row's blocks are scaled with, to shared memory
//   TensorTile<kType> w; w.load(...)    this thread's share of both tiles
//   w.pair(j, ...)                      u[s, j] of kernels/matmul.h for 16 rows x 8 tokens
//
// One product takes exactly one block of 32 columns (Q6_K: one half), so that its int32 result is
// the exact dot of that block. It starts from the bits of 1.5 * 2^23: as a float the result is that
// number plus the dot, and one subtraction converts it. |dot| < 2^22: 16 * 15 * 127 * 32 (Q4_K,
// upper nibbles taken in place) and 4 * 32 * 127 * 16 (Q6_K). The factors 16 and 4 are taken out of
// the block's scale, which is exact, as d * scale and dmin * min are (11 and at most 8 bits).
//
// Thread 4 g + p has, of A, rows g and g + 8, columns 4p .. 4p + 3 of both halves of a block; of B,
// the same columns of token g; of the product, those rows x tokens 2p and 2p + 1.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "kernels/cuda/fragment.cuh"
#include "kernels/cuda/numerics.cuh"
#include "kernels/cuda/prefill_ops.h"

namespace refute::cuda {
namespace {

constexpr int kMagicBits = 0x4b400000;
constexpr float kMagic = 12582912.0f;

__device__ inline unsigned shared_address(const void* at) {
  return static_cast<unsigned>(__cvta_generic_to_shared(at));
}
__device__ inline void copy_16(void* to_shared, const void* from_global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to_shared)),
               "l"(from_global));
}
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;"); }
template <int kPending>
__device__ inline void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// float(dot) of an accumulator that started from kMagicBits.
__device__ inline float dot_of(int accumulator) {
  return __fsub_rn(__int_as_float(accumulator), kMagic);
}

// Keeps a value in its register: the compiler would rather compute it again for every product.
__device__ inline void keep(unsigned& value) { asm volatile("" : "+r"(value)); }

// 32 columns, unsigned weights.
__device__ inline void product_32(const unsigned* a, unsigned b0, unsigned b1, int* c) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%10, %10, %10, %10};"
      : "=r"(c[0]), "=r"(c[1]), "=r"(c[2]), "=r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "r"(kMagicBits));
}
// 16 columns, signed weights.
__device__ inline void product_16(unsigned a0, unsigned a1, unsigned b, int* c) {
  asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5}, {%6}, "
      "{%7, %7, %7, %7};"
      : "=r"(c[0]), "=r"(c[1]), "=r"(c[2]), "=r"(c[3])
      : "r"(a0), "r"(a1), "r"(b), "r"(kMagicBits));
}

// In shared memory, the 16-byte piece of lane 4 r + j of a tile's array stands at place
// 4 r + (j ^ r / 2): the pieces of one j of all rows lie in different banks.
__device__ inline int piece_place(int lane) { return lane ^ (lane / 8); }

// Row scalars in shared memory: 16 rows of four float4, one for each pair of blocks, and padding.
constexpr int kScalarStride = 20;  // floats

template <TensorType kType>
struct TensorTile;

template <>
struct TensorTile<TensorType::kQ4_K> {
  static constexpr int kBytes = 1152;        // In global memory
  static constexpr int kSharedBytes = 1152;  // and in shared memory, a multiple of 64.
  unsigned a[8][4];
  float4 rows[2][4];  // d * scale, dmin * min of block 2j; of block 2j + 1.

  __device__ static void copy(const std::uint8_t* tile, std::uint8_t* to, int lane) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      copy_16(to + 512 * h + 16 * piece_place(lane), tile + 512 * h + 16 * lane);
    }
    if (lane < 8) copy_16(to + 1024 + 16 * lane, tile + 1024 + 16 * lane);
  }

  __device__ static void row_scalars(const std::uint8_t* tile, float* scalars, int lane) {
    const int r = lane / 4;
    const int p = lane % 4;
    UnpackedWithMin header;
    header.unpack_header(*reinterpret_cast<const uint4*>(tile + 1024 + 16 * r), p);
    float4 to;
    to.x = __fmul_rn(header.d, __int2float_rn(header.scale[0]));
    to.y = __fmul_rn(header.dmin, __int2float_rn(header.min[0]));
    to.z = __fmul_rn(__fmul_rn(header.d, 0.0625f), __int2float_rn(header.scale[1]));
    to.w = __fmul_rn(header.dmin, __int2float_rn(header.min[1]));
    *reinterpret_cast<float4*>(scalars + kScalarStride * r + 4 * p) = to;
  }

  // tiles: both in shared memory; scalars: of the 16 rows.
  template <bool kKeep>
  __device__ void load(const std::uint8_t* tiles, const float* scalars, int lane) {
    const int g = lane / 4;
    const int p = lane % 4;
    const int first = 16 * piece_place(4 * g) + 4 * p;
#pragma unroll
    for (int t = 0; t < 2; ++t) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const std::uint8_t* from = tiles + t * kSharedBytes + (first ^ (16 * j));
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const unsigned word = *reinterpret_cast<const unsigned*>(from + 512 * h);
          a[2 * j][2 * h + t] = word & 0x0f0f0f0fu;
          a[2 * j + 1][2 * h + t] = word & 0xf0f0f0f0u;
          if constexpr (kKeep) {
            keep(a[2 * j][2 * h + t]);
            keep(a[2 * j + 1][2 * h + t]);
          }
        }
        rows[t][j] =
            *reinterpret_cast<const float4*>(scalars + kScalarStride * (8 * t + g) + 4 * j);
      }
    }
  }

  // b: words of block 2j, then 2j + 1; x: d and sum of both blocks, of tokens 2p and 2p + 1.
  __device__ void pair(int j, uint4 b, const float4* x, float* u) const {
    int first[4];
    int second[4];
    product_32(a[2 * j], b.x, b.y, first);
    product_32(a[2 * j + 1], b.z, b.w, second);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float4 w = rows[i / 2][j];
      const float4 of = x[i % 2];
      const float v0 = __fmaf_rn(w.x, dot_of(first[i]), -__fmul_rn(w.y, of.y));
      const float v1 = __fmaf_rn(w.z, dot_of(second[i]), -__fmul_rn(w.w, of.w));
      u[i] = __fmaf_rn(of.z, v1, __fmul_rn(of.x, v0));
    }
  }
};

template <>
struct TensorTile<TensorType::kQ6_K> {
  static constexpr int kBytes = 1680;
  static constexpr int kSharedBytes = 1728;
  unsigned a[8][4];
  float4 rows[2][4];  // The scales of both halves of block 2j; of block 2j + 1.
  float d[2];

  __device__ static void copy(const std::uint8_t* tile, std::uint8_t* to, int lane) {
#pragma unroll
    for (int h = 0; h < 3; ++h) {
      copy_16(to + 512 * h + 16 * piece_place(lane), tile + 512 * h + 16 * lane);
    }
    if (lane < 9) copy_16(to + 1536 + 16 * lane, tile + 1536 + 16 * lane);
  }

  __device__ static void row_scalars(const std::uint8_t* tile, float* scalars, int lane) {
    const char4 scale = *reinterpret_cast<const char4*>(tile + 1536 + 4 * lane);
    *reinterpret_cast<float4*>(scalars + kScalarStride * (lane / 4) + 4 * (lane % 4)) = {
        __int2float_rn(scale.x), __int2float_rn(scale.y), __int2float_rn(scale.z),
        __int2float_rn(scale.w)};
  }

  template <bool kKeep>
  __device__ void load(const std::uint8_t* tiles, const float* scalars, int lane) {
    const int g = lane / 4;
    const int p = lane % 4;
    const int place = 16 * piece_place(4 * g);
#pragma unroll
    for (int t = 0; t < 2; ++t) {
      const std::uint8_t* tile = tiles + t * kSharedBytes;
      d[t] = __fmul_rn(from_half_bits(load_half(tile + 1664 + 2 * g)), 0.25f);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
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
          if constexpr (kKeep) {
            keep(a[2 * j][2 * h + t]);
            keep(a[2 * j + 1][2 * h + t]);
          }
        }
        rows[t][j] =
            *reinterpret_cast<const float4*>(scalars + kScalarStride * (8 * t + g) + 4 * j);
      }
    }
  }

  __device__ void pair(int j, uint4 b, const float4* x, float* u) const {
    int first[4], second[4], third[4], fourth[4];
    product_16(a[2 * j][0], a[2 * j][1], b.x, first);
    product_16(a[2 * j][2], a[2 * j][3], b.y, second);
    product_16(a[2 * j + 1][0], a[2 * j + 1][1], b.z, third);
    product_16(a[2 * j + 1][2], a[2 * j + 1][3], b.w, fourth);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float4 w = rows[i / 2][j];
      const float4 of = x[i % 2];
      // Exact: integers times 4, below 2^24 after division by 4.
      const float sum0 = __fmaf_rn(w.y, dot_of(second[i]), __fmul_rn(w.x, dot_of(first[i])));
      const float sum1 = __fmaf_rn(w.w, dot_of(fourth[i]), __fmul_rn(w.z, dot_of(third[i])));
      u[i] = __fmaf_rn(of.z, __fmul_rn(d[i / 2], sum1),
                       __fmul_rn(of.x, __fmul_rn(d[i / 2], sum0)));
    }
  }
};

}  // namespace
}  // namespace refute::cuda
