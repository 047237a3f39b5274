// The kernels for AVX2, FMA and F16C. No std:: templates and no inline functions of external
// linkage in here: see simd.h.

#include <immintrin.h>

#include "kernels/cpu/float_kernels.h"
#include "kernels/cpu/quantized_kernels.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/vector_avx2.h"
#include "kernels/quant/blocks.h"

namespace refute::cpu {
namespace {

__m256i abs_bits(__m256 x) {
  return _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(0x7fffffff));
}

int reduce_max_i32(__m256i a) {
  __m128i m = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
  m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
  m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1));
  return _mm_cvtsi128_si32(m);
}

int reduce_add_i32(__m256i a) {
  __m128i s = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
  return _mm_cvtsi128_si32(s);
}

// The magnitudes of floats order like their bits, and those of Inf and NaN lie above all finite
// ones.
void quantize_row(const float* x, std::size_t columns, std::int8_t* q, float* d,
                  std::int32_t* sums) {
  for (std::size_t b = 0; b < columns / 32; ++b) {
    __m256 value[4];
    __m256i max = _mm256_setzero_si256();
    for (int i = 0; i < 4; ++i) {
      value[i] = _mm256_loadu_ps(x + 32 * b + 8 * i);
      max = _mm256_max_epi32(max, abs_bits(value[i]));
    }
    const int max_bits = reduce_max_i32(max);
    d[b] =
        max_bits < 0x7f800000 ? __builtin_bit_cast(float, max_bits) / 127.0f : __builtin_nanf("");
    auto* const out = reinterpret_cast<__m256i*>(q + 32 * b);
    if (!(d[b] > 0.0f)) {
      _mm256_storeu_si256(out, _mm256_setzero_si256());
      sums[b] = 0;
      continue;
    }
    const __m256 scale = _mm256_set1_ps(d[b]);
    const __m256 limit = _mm256_set1_ps(127.0f);
    const __m256 negative_limit = _mm256_set1_ps(-127.0f);
    __m256i rounded[4];
    for (int i = 0; i < 4; ++i) {
      const __m256 ratio = _mm256_div_ps(value[i], scale);
      // Clamping to integers before or after rounding is the same.
      rounded[i] = _mm256_cvtps_epi32(_mm256_max_ps(_mm256_min_ps(ratio, limit), negative_limit));
    }
    sums[b] = reduce_add_i32(_mm256_add_epi32(_mm256_add_epi32(rounded[0], rounded[1]),
                                              _mm256_add_epi32(rounded[2], rounded[3])));
    const __m256i packed = _mm256_packs_epi16(_mm256_packs_epi32(rounded[0], rounded[1]),
                                              _mm256_packs_epi32(rounded[2], rounded[3]));
    _mm256_storeu_si256(
        out, _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
  }
}

// Dot products over 16 columns, from 8 vectors of 8 partial sums, one vector a block: in each, the
// low half holds the first 16 columns.
struct HalfDots {
  __m256i even;  // Blocks 0 2 4 6, first halves; then their second halves.
  __m256i odd;   // The same of blocks 1 3 5 7.
};

[[gnu::always_inline]] inline HalfDots reduce_blocks(const __m256i partial[8]) {
  return {_mm256_hadd_epi32(_mm256_hadd_epi32(partial[0], partial[2]),
                            _mm256_hadd_epi32(partial[4], partial[6])),
          _mm256_hadd_epi32(_mm256_hadd_epi32(partial[1], partial[3]),
                            _mm256_hadd_epi32(partial[5], partial[7]))};
}

// First plus second halves: the 8 blocks in even-odd order.
[[gnu::always_inline]] inline __m256i add_halves(HalfDots dots) {
  return _mm256_add_epi32(_mm256_permute2x128_si256(dots.even, dots.odd, 0x20),
                          _mm256_permute2x128_si256(dots.even, dots.odd, 0x31));
}

// Unsigned weights of at most 6 bits times activations. Two products stay below 2 * 63 * 127 =
// 16002, so the int16 sums are exact.
[[gnu::always_inline]] inline HalfDots dot_unsigned(const __m256i q[8], const std::int8_t* x) {
  __m256i partial[8];
#pragma GCC unroll 8
  for (int b = 0; b < 8; ++b) {
    const __m256i pairs = _mm256_maddubs_epi16(q[b], load_256(x + 32 * b));
    partial[b] = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
  }
  return reduce_blocks(partial);
}

// Q4_K and Q5_K.
struct ScaleMinWeights {
  __m256i q[8];    // In [0, 31], one block of 32 each.
  __m256i scales;  // Even-odd order.
  __m256i mins;
  __m256 d, dmin;

  template <typename Block>
  void load_scales(const Block* block) {
    const __m128i bytes = load_scales_mins(block->scales);
    scales = _mm256_cvtepu8_epi32(bytes);
    mins = _mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8));
    d = broadcast_half(block->d);
    dmin = broadcast_half(block->dmin);
  }
};

[[gnu::always_inline]] inline float dot_scale_min(const ScaleMinWeights& w,
                                                  const ActivationBlock& x) {
  const __m256i dots = _mm256_mullo_epi32(w.scales, add_halves(dot_unsigned(w.q, x.q)));
  const __m256i mins = _mm256_mullo_epi32(w.mins, load_256(x.sums));
  const __m256 v = _mm256_fmsub_ps(w.d, _mm256_cvtepi32_ps(dots),
                                   _mm256_mul_ps(w.dmin, _mm256_cvtepi32_ps(mins)));
  return combine_blocks(v, _mm256_load_ps(x.d));
}

struct FormatQ4K {
  using Weights = ScaleMinWeights;
  [[gnu::always_inline]] static inline Weights load(const std::byte* row, std::size_t s,
                                                    std::size_t) {
    const auto* const block = reinterpret_cast<const BlockQ4K*>(row) + s;
    const __m256i low_bits = _mm256_set1_epi8(15);
    Weights w;
    w.load_scales(block);
#pragma GCC unroll 4
    for (int p = 0; p < 4; ++p) {
      const __m256i bytes = load_256(block->q + 32 * p);
      w.q[2 * p] = _mm256_and_si256(bytes, low_bits);
      w.q[2 * p + 1] = _mm256_and_si256(_mm256_srli_epi16(bytes, 4), low_bits);
    }
    return w;
  }
  [[gnu::always_inline]] static inline float dot(const Weights& w, const ActivationBlock& x) {
    return dot_scale_min(w, x);
  }
};

struct FormatQ5K {
  using Weights = ScaleMinWeights;
  [[gnu::always_inline]] static inline Weights load(const std::byte* row, std::size_t s,
                                                    std::size_t) {
    const auto* const block = reinterpret_cast<const BlockQ5K*>(row) + s;
    const __m256i low_bits = _mm256_set1_epi8(15);
    const __m256i bit = _mm256_set1_epi8(16);
    const __m256i high = load_256(block->q_high);
    Weights w;
    w.load_scales(block);
#pragma GCC unroll 4
    for (int p = 0; p < 4; ++p) {
      const __m256i bytes = load_256(block->q + 32 * p);
      // Bits 2p and 2p + 1 of `high` to bit 4; what crosses bytes is masked away.
      const __m256i pair = _mm256_srli_epi16(high, 2 * p);
      w.q[2 * p] = _mm256_or_si256(_mm256_and_si256(bytes, low_bits),
                                   _mm256_and_si256(_mm256_slli_epi16(pair, 4), bit));
      w.q[2 * p + 1] = _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(bytes, 4), low_bits),
                                       _mm256_and_si256(_mm256_slli_epi16(pair, 3), bit));
    }
    return w;
  }
  [[gnu::always_inline]] static inline float dot(const Weights& w, const ActivationBlock& x) {
    return dot_scale_min(w, x);
  }
};

struct FormatQ6K {
  struct Weights {
    __m256i q[8];         // In [0, 63]: 32 more than the weights, see half_sums.
    __m256i even_scales;  // In the order of HalfDots.
    __m256i odd_scales;
    __m256 d;
  };
  [[gnu::always_inline]] static inline Weights load(const std::byte* row, std::size_t s,
                                                    std::size_t) {
    const auto* const block = reinterpret_cast<const BlockQ6K*>(row) + s;
    const __m256i low_bits = _mm256_set1_epi8(15);
    const __m256i high_bits = _mm256_set1_epi8(48);
    Weights w;
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      const __m256i a = load_256(block->q_low + 64 * h);
      const __m256i b = load_256(block->q_low + 64 * h + 32);
      const __m256i high = load_256(block->q_high + 32 * h);
      w.q[4 * h] = _mm256_or_si256(_mm256_and_si256(a, low_bits),
                                   _mm256_and_si256(_mm256_slli_epi16(high, 4), high_bits));
      w.q[4 * h + 1] = _mm256_or_si256(_mm256_and_si256(b, low_bits),
                                       _mm256_and_si256(_mm256_slli_epi16(high, 2), high_bits));
      w.q[4 * h + 2] = _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(a, 4), low_bits),
                                       _mm256_and_si256(high, high_bits));
      w.q[4 * h + 3] = _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(b, 4), low_bits),
                                       _mm256_and_si256(_mm256_srli_epi16(high, 2), high_bits));
    }
    const __m128i scales =
        _mm_shuffle_epi8(load_128(block->scales),
                         _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    w.even_scales = _mm256_cvtepi8_epi32(scales);
    w.odd_scales = _mm256_cvtepi8_epi32(_mm_srli_si128(scales, 8));
    w.d = broadcast_half(block->d);
    return w;
  }
  [[gnu::always_inline]] static inline float dot(const Weights& w, const ActivationBlock& x) {
    HalfDots dots = dot_unsigned(w.q, x.q);
    dots.even = _mm256_sub_epi32(dots.even, load_256(x.half_sums));
    dots.odd = _mm256_sub_epi32(dots.odd, load_256(x.half_sums + 8));
    dots.even = _mm256_mullo_epi32(dots.even, w.even_scales);
    dots.odd = _mm256_mullo_epi32(dots.odd, w.odd_scales);
    const __m256 v = _mm256_mul_ps(w.d, _mm256_cvtepi32_ps(add_halves(dots)));
    return combine_blocks(v, _mm256_load_ps(x.d));
  }
};

struct FormatQ8_0 {
  struct Weights {
    __m256i q[8];
    __m256 d;  // Even-odd order.
  };
  [[gnu::always_inline]] static inline Weights load(const std::byte* row, std::size_t s,
                                                    std::size_t columns) {
    const auto* block = reinterpret_cast<const BlockQ8_0*>(row) + 8 * s;
    const std::size_t count = columns / 32 - 8 * s;
    BlockQ8_0 end[8];
    if (count < 8) {  // Past the end of the row the weights count as 0.
      __builtin_memset(end, 0, sizeof(end));
      __builtin_memcpy(end, block, count * sizeof(BlockQ8_0));
      block = end;
    }
    Weights w;
    std::uint16_t d[8];
#pragma GCC unroll 8
    for (int b = 0; b < 8; ++b) {
      w.q[b] = load_256(block[b].q);
      d[b / 2 + 4 * (b % 2)] = block[b].d;
    }
    w.d = Avx2::load_half(d);
    return w;
  }
  // |w| as unsigned (128 for -128) times x with the sign of w: two products are at most
  // 2 * 128 * 127 = 32512, so the int16 sums are exact.
  [[gnu::always_inline]] static inline float dot(const Weights& w, const ActivationBlock& x) {
    __m256i partial[8];
#pragma GCC unroll 8
    for (int b = 0; b < 8; ++b) {
      const __m256i signed_x = _mm256_sign_epi8(load_256(x.q + 32 * b), w.q[b]);
      const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w.q[b]), signed_x);
      partial[b] = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
    }
    const __m256i dots = add_halves(reduce_blocks(partial));
    return combine_blocks(_mm256_mul_ps(w.d, _mm256_cvtepi32_ps(dots)), _mm256_load_ps(x.d));
  }
};

std::uint64_t xor_words(const std::uint64_t* words, std::size_t count) {
  __m256i sum[8];
#pragma GCC unroll 8
  for (int v = 0; v < 8; ++v) sum[v] = _mm256_setzero_si256();
  std::size_t i = 0;
  for (; i + 32 <= count; i += 32) {
#pragma GCC unroll 8
    for (int v = 0; v < 8; ++v) sum[v] = _mm256_xor_si256(sum[v], load_256(words + i + 4 * v));
  }
#pragma GCC unroll 7
  for (int v = 1; v < 8; ++v) sum[0] = _mm256_xor_si256(sum[0], sum[v]);
  std::uint64_t lanes[4];
  __builtin_memcpy(lanes, &sum[0], sizeof(lanes));
  std::uint64_t total = (lanes[0] ^ lanes[1]) ^ (lanes[2] ^ lanes[3]);
  for (; i < count; ++i) total ^= words[i];
  return total;
}

}  // namespace

constinit const SimdKernels kAvx2Kernels = {
    .isa = Isa::kAvx2,
    .tiles = nullptr,
    .quantize_row = quantize_row,
    .dot_q8_0 = dot_quantized<FormatQ8_0>,
    .dot_q4_k = dot_quantized<FormatQ4K>,
    .dot_q5_k = dot_quantized<FormatQ5K>,
    .dot_q6_k = dot_quantized<FormatQ6K>,
    .dot_f32 = dot_bytes<Avx2, Scalar, StoredF32>,
    .dot_f16 = dot_bytes<Avx2, Scalar, StoredF16>,
    .dot_bf16 = dot_bytes<Avx2, Scalar, StoredBF16>,
    .scale_by = scale_by<Avx2, Scalar>,
    .add = add<Avx2, Scalar>,
    .swiglu = swiglu<Avx2, Scalar>,
    .rope = rope<Avx2, Scalar>,
    .scores = scores<Avx2, Scalar>,
    .softmax_terms = softmax_terms<Avx2, Scalar>,
    .chunk_values = chunk_values<Avx2, Scalar>,
    .merge_chunk = merge_chunk<Avx2, Scalar>,
    .weighted_sum_f32 = weighted_sum<Avx2, Scalar, StoredF32>,
    .xor_words = xor_words,
};

}  // namespace refute::cpu
