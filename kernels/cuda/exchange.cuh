// What blocks of one kernel hand to each other: words of 32 bits, each in device memory beside a
// tag that says when it was written. Whoever needs a word reads until it has the tag it waits for,
// so that data needs no barrier, no flag and no fence: a 64-bit access is never torn, and a word
// that has the tag is the word. Every tag is written once; whoever writes a word anew must know
// that all have read the one before.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/numerics.cuh"

namespace refute::cuda {
namespace {

using Word = std::uint64_t;  // The value in the lower half, the tag in the upper one.

__device__ inline Word tagged(unsigned value, unsigned tag) {
  return (static_cast<Word>(tag) << 32) | value;
}
__device__ inline Word tagged(float value, unsigned tag) {
  return tagged(__float_as_uint(value), tag);
}
__device__ inline unsigned tag_of(Word word) { return static_cast<unsigned>(word >> 32); }
__device__ inline unsigned bits_of(Word word) { return static_cast<unsigned>(word); }
__device__ inline float float_of(Word word) { return __uint_as_float(bits_of(word)); }

__device__ inline void put(Word* at, Word word) {
  asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(at), "l"(word) : "memory");
}
// at: a multiple of 16 bytes, here and below where there are two.
__device__ inline void put_two(Word* at, Word first, Word second) {
  asm volatile("st.relaxed.gpu.global.v2.u64 [%0], {%1, %2};" ::"l"(at), "l"(first), "l"(second)
               : "memory");
}

__device__ inline Word read_word(const Word* at) {
  Word word;
  asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(word) : "l"(at) : "memory");
  return word;
}
struct alignas(16) TwoWords {
  Word first;
  Word second;

  __device__ bool has(unsigned tag) const { return tag_of(first) == tag && tag_of(second) == tag; }
};
__device__ inline TwoWords read_two(const Word* at) {
  TwoWords words;
  asm volatile("ld.relaxed.gpu.global.v2.u64 {%0, %1}, [%2];"
               : "=l"(words.first), "=l"(words.second)
               : "l"(at)
               : "memory");
  return words;
}

// Words that say more than themselves: what the block that put them has written before its
// release() can be read by whoever read them, too.
__device__ inline void release() { asm volatile("fence.acq_rel.gpu;" ::: "memory"); }
__device__ inline TwoWords acquire_two(const Word* at) {
  TwoWords words;
  asm volatile("ld.acquire.gpu.global.v2.u64 {%0, %1}, [%2];"
               : "=l"(words.first), "=l"(words.second)
               : "l"(at)
               : "memory");
  return words;
}

// Waits for the word.
__device__ inline Word take(const Word* at, unsigned tag) {
  Word word = read_word(at);
  while (tag_of(word) != tag) word = read_word(at);
  return word;
}
// Waits for kCount pairs, `stride` words apart, of which the first `count` are there to be read.
template <int kCount>
__device__ inline void take_pairs(const Word* at, int stride, int count, unsigned tag,
                                  TwoWords (&words)[kCount]) {
  bool all;
  do {
    all = true;
#pragma unroll
    for (int n = 0; n < kCount; ++n) {
      if (n < count) words[n] = read_two(at + n * stride);
    }
#pragma unroll
    for (int n = 0; n < kCount; ++n) all = all && (n >= count || words[n].has(tag));
  } while (!all);
}

// Rows of quantized activations: five pairs of words a block of 32, four int8 in each of the first
// eight, then d and the sums (ActivationMeta).
struct QuantizedWords {
  static constexpr int kPairs = 5;
  Word* words;  // [rows, columns / 32, 2 * kPairs]

  // Block `block`, an element a thread of a full warp.
  __device__ void put_block(int block, float x, unsigned tag) const {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    const QuantizedBlock of = quantize_lane(x);
    Word* const to = words + 2 * kPairs * block;
    unsigned word = (static_cast<unsigned>(of.value) & 0xffu) << (8 * (lane % 4));
    word |= __shfl_xor_sync(kAllLanes, word, 1);
    word |= __shfl_xor_sync(kAllLanes, word, 2);
    if (lane % 4 == 0) put(to + lane / 4, tagged(word, tag));
    if (lane == 1) {
      const unsigned sums = (static_cast<unsigned>(of.first_sum) & 0xffffu) |
                            (static_cast<unsigned>(of.second_sum) << 16);
      put_two(to + 2 * (kPairs - 1), tagged(of.d, tag), tagged(sums, tag));
    }
  }
  __device__ const Word* pair(int n) const { return words + 2 * n; }
  // A word of block `block`.
  __device__ const Word* last_of(int block) const { return pair(kPairs * block + kPairs - 1); }
};

}  // namespace
}  // namespace refute::cuda
