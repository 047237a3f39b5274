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
// c = a b + what both rows begin with in the columns 2p and 2p + 1. Zeros as c would be as many
// instructions.
__device__ inline void start_product_32(unsigned a0, unsigned a1, unsigned a2, unsigned a3,
                                        unsigned b0, unsigned b1, int even, int odd, int (&c)[4]) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%10, %11, %10, %11};"
      : "=r"(c[0]), "=r"(c[1]), "=r"(c[2]), "=r"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1), "r"(even), "r"(odd));
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
  int low[4];   // With the lower nibbles, block 2p's,
  int high[4];  // and with the upper ones, 16 times too large.
#pragma unroll
  for (int k = 0; k < 8; k += 2) {
    const unsigned a[4] = {word_of(first.q, k), word_of(second.q, k), word_of(first.q, k + 1),
                           word_of(second.q, k + 1)};
    const auto add = [&](unsigned mask, int(&c)[4]) {
      if (k == 0) {
        start_product_32(a[0] & mask, a[1] & mask, a[2] & mask, a[3] & mask, x.words[k],
                         x.words[k + 1], 0, 0, c);
      } else {
        add_product_32(a[0] & mask, a[1] & mask, a[2] & mask, a[3] & mask, x.words[k],
                       x.words[k + 1], c);
      }
    };
    add(kLow, low);
    add(~kLow, high);
  }
  UnpackedWithMin w[2];
  UnpackedWithMin::unpack_headers(first.header, second.header, lane % 4, w[0], w[1]);
  const auto row = [&](int r) {
    return pair_sum(x.scales, w[r].scaled(x.scales, 0, low[2 * r]),
                    w[r].scaled(x.scales, 1, high[2 * r + 1] >> 4));
  };
  return {row(0), row(1)};
}

// No weight is put together from its four and its two bits: the tensor cores multiply them apart,
// as they lie in their words, so that a word costs a mask. Integers here are 16 times too large in
// block 2p + 1, which its d takes back; both are powers of two away from exact integers.
template <>
__device__ inline RowPair pair_dots<TensorType::kQ6_K>(const Fragment<TensorType::kQ6_K>& first,
                                                       const Fragment<TensorType::kQ6_K>& second,
                                                       const TokenLane& x, int lane) {
  constexpr unsigned kLow = 0x0f0f0f0fu;
  int even[2][2];  // [half of 16 columns][row], block 2p,
  int odd[2][2];   // and block 2p + 1.
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int k = 4 * half;
    const auto word = [&](int n) { return word_of(first.q, k + n); };
    const auto other = [&](int n) { return word_of(second.q, k + n); };
    // Weights count 32 more than they are.
    const int even_sum = half == 0 ? x.scales.first_sum(0) : x.scales.second_sum(0);
    const int odd_sum = half == 0 ? x.scales.first_sum(1) : x.scales.second_sum(1);
    int low[4];
    int upper[4];
    start_product_32(word(0) & kLow, other(0) & kLow, word(1) & kLow, other(1) & kLow, x.words[k],
                     x.words[k + 1], -32 * even_sum, 0, low);
    add_product_32(word(2) & kLow, other(2) & kLow, word(3) & kLow, other(3) & kLow, x.words[k + 2],
                   x.words[k + 3], low);
    start_product_32(word(0) & ~kLow, other(0) & ~kLow, word(1) & ~kLow, other(1) & ~kLow,
                     x.words[k], x.words[k + 1], 0, -512 * odd_sum, upper);
    add_product_32(word(2) & ~kLow, other(2) & ~kLow, word(3) & ~kLow, other(3) & ~kLow,
                   x.words[k + 2], x.words[k + 3], upper);
    // A word of the two bits is of two words of columns: bits 0 and 1 of its bytes are of block 2p
    // and the first, 2 and 3 of block 2p + 1, the others of the second word.
    const unsigned high[4] = {word_of(&first.high, 2 * half), word_of(&second.high, 2 * half),
                              word_of(&first.high, 2 * half + 1),
                              word_of(&second.high, 2 * half + 1)};
    int two[4][4];  // Those of the second word and block 2p have the factor of the others: to low.
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      const unsigned mask = 0x03030303u << (2 * n);
      const unsigned a[4] = {high[0] & mask, high[1] & mask, high[2] & mask, high[3] & mask};
      const unsigned b[2] = {x.words[k + n / 2], x.words[k + 2 + n / 2]};
      if (n == 2) {
        add_product_32(a[0], a[1], a[2], a[3], b[0], b[1], low);
      } else {
        start_product_32(a[0], a[1], a[2], a[3], b[0], b[1], 0, 0, two[n]);
      }
    }
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const int e = 2 * row;
      const int o = e + 1;
      even[half][row] = low[e] + 16 * two[0][e];
      odd[half][row] = upper[o] + 64 * two[1][o] + 4 * two[3][o];
    }
  }
  const auto row = [&](const Fragment<TensorType::kQ6_K>& of, int r) {
    const Unpacked<TensorType::kQ6_K> w(of, lane % 4);  // For its scales.
    const auto v = [&](float d, const int(&dots)[2][2], int b) {
      return __fmul_rn(
          d, __int2float_rn(w.scale[2 * b] * dots[0][r] + w.scale[2 * b + 1] * dots[1][r]));
    };
    return pair_sum(x.scales, v(w.d, even, 0), v(__fmul_rn(w.d, 0.0625f), odd, 1));
  };
  return {row(first, 0), row(second, 1)};
}

}  // namespace
}  // namespace refute::cuda
