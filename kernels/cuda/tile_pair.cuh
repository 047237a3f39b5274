// Products of two tiles (tiles.h), 16 rows x 256 columns, with one token on the tensor cores: there
// they cost the integer units, which bound products otherwise, only the unpacking.
//
// One product of the tensor cores takes 32 columns k of 16 rows and eight columns n, for which
// there is no token: so column n is a block of 32 of the same token. Thread 4 g + p has, of the
// rows g and g + 8, words of the blocks 2p and 2p + 1, as tiles have them; the other operand is
// zero but where that thread's columns belong to block n = g, g / 2 = p. Result (row, n) is then
// the exact dot of block n of that row, and thread 4 g + p has those of the blocks 2p and 2p + 1 of
// its two rows: what it needs for u[s, p] of kernels/matmul.h.
//
//   TokenLane x;  x.load(q, meta, s, lane);     what a thread has of the token
//   pair_dots<kType>(first, second, x, lane)    u[s, p] of rows g and g + 8
#pragma once

#include <cuda_runtime.h>

#include "kernels/cuda/fragment.cuh"

namespace refute::cuda {
namespace {

// c += a b, 16 rows x 32 columns, unsigned weights.
__device__ inline void add_product_32(unsigned a0, unsigned a1, unsigned a2, unsigned a3,
                                      unsigned b0, unsigned b1, int (&c)[4]) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

struct TokenLane {
  unsigned words[8];      // Of block g where g / 2 = p, else zeros.
  ActivationLane scales;  // d and sums of the blocks 2p and 2p + 1.

  // Of super-block s of the token's row, in shared memory.
  __device__ void load(const std::int8_t* q_row, const ActivationMeta* meta_row, int s, int lane) {
    const int g = lane / 4;
    const int p = lane % 4;
    uint4 of[2] = {};
    if (g / 2 == p) {
      const auto* const from = reinterpret_cast<const uint4*>(q_row + 256 * s + 32 * g);
      of[0] = from[0];
      of[1] = from[1];
    }
#pragma unroll
    for (int k = 0; k < 8; ++k) words[k] = word_of(of, k);
    scales.load_scales(meta_row, s, p);
  }
};

struct RowPair {
  float first;   // Of row g,
  float second;  // and g + 8.
};

template <TensorType kType>
__device__ inline RowPair pair_dots(const Fragment<kType>& first, const Fragment<kType>& second,
                                    const TokenLane& x, int lane);

template <>
__device__ inline RowPair pair_dots<TensorType::kQ4_K>(const Fragment<TensorType::kQ4_K>& first,
                                                       const Fragment<TensorType::kQ4_K>& second,
                                                       const TokenLane& x, int lane) {
  constexpr unsigned kLow = 0x0f0f0f0fu;
  int low[4] = {};  // With the lower nibbles, block 2p's,
  int all[4] = {};  // and with both: that of block 2p + 1 is a sixteenth of the difference.
#pragma unroll
  for (int k = 0; k < 8; k += 2) {
    const unsigned a[4] = {word_of(first.q, k), word_of(second.q, k), word_of(first.q, k + 1),
                           word_of(second.q, k + 1)};
    add_product_32(a[0] & kLow, a[1] & kLow, a[2] & kLow, a[3] & kLow, x.words[k], x.words[k + 1],
                   low);
    add_product_32(a[0], a[1], a[2], a[3], x.words[k], x.words[k + 1], all);
  }
  const auto row = [&](const Fragment<TensorType::kQ4_K>& of, int even, int odd) {
    UnpackedWithMin w;
    w.unpack_header(of.header, lane % 4);
    return pair_sum(x.scales, w.scaled(x.scales, 0, low[even]),
                    w.scaled(x.scales, 1, (all[odd] - low[odd]) >> 4));
  };
  return {row(first, 0, 1), row(second, 2, 3)};
}

template <>
__device__ inline RowPair pair_dots<TensorType::kQ6_K>(const Fragment<TensorType::kQ6_K>& first,
                                                       const Fragment<TensorType::kQ6_K>& second,
                                                       const TokenLane& x, int lane) {
  const Unpacked<TensorType::kQ6_K> a(first, lane % 4);
  const Unpacked<TensorType::kQ6_K> b(second, lane % 4);
  int dots[2][2][4] = {};  // [block 2p or 2p + 1][its first or second 16 columns]
#pragma unroll
  for (int k = 0; k < 8; k += 2) {
#pragma unroll
    for (int block = 0; block < 2; ++block) {
      const int at = 8 * block + k;
      add_product_32(static_cast<unsigned>(a.q[at]), static_cast<unsigned>(b.q[at]),
                     static_cast<unsigned>(a.q[at + 1]), static_cast<unsigned>(b.q[at + 1]),
                     x.words[k], x.words[k + 1], dots[block][k / 4]);
    }
  }
  const auto row = [&](const Unpacked<TensorType::kQ6_K>& w, int even, int odd) {
    return pair_sum(x.scales, w.scaled(x.scales, 0, dots[0][0][even], dots[0][1][even]),
                    w.scaled(x.scales, 1, dots[1][0][odd], dots[1][1][odd]));
  };
  return {row(a, 0, 1), row(b, 2, 3)};
}

}  // namespace
}  // namespace refute::cuda
