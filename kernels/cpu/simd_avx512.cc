// The kernels for AVX-512 with VNNI. No std:: templates and no inline functions of external linkage
// in here: see simd.h.

#include <immintrin.h>

#include "kernels/cpu/float_kernels.h"
#include "kernels/cpu/quantized_kernels.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/vector_avx512.h"
#include "kernels/quant/blocks.h"

namespace refute::cpu {
namespace {

// The magnitudes of floats order like their bits, and those of Inf and NaN lie above all finite
// ones.
void quantize_row(const float* x, std::size_t columns, std::int8_t* q, float* d,
                  std::int32_t* sums) {
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  const __m512 limit = _mm512_set1_ps(127.0f);
  const __m512 negative_limit = _mm512_set1_ps(-127.0f);
  for (std::size_t b = 0; b < columns / 32; ++b) {
    const __m512 first = _mm512_loadu_ps(x + 32 * b);
    const __m512 second = _mm512_loadu_ps(x + 32 * b + 16);
    const int max_bits = _mm512_reduce_max_epi32(
        _mm512_max_epi32(_mm512_and_si512(_mm512_castps_si512(first), magnitude),
                         _mm512_and_si512(_mm512_castps_si512(second), magnitude)));
    d[b] =
        max_bits < 0x7f800000 ? __builtin_bit_cast(float, max_bits) / 127.0f : __builtin_nanf("");
    auto* const out = reinterpret_cast<__m128i*>(q + 32 * b);
    if (!(d[b] > 0.0f)) {
      _mm_storeu_si128(out, _mm_setzero_si128());
      _mm_storeu_si128(out + 1, _mm_setzero_si128());
      sums[b] = 0;
      continue;
    }
    // Clamping to integers before or after rounding is the same.
    const __m512 scale = _mm512_set1_ps(d[b]);
    const __m512i a = _mm512_cvtps_epi32(
        _mm512_max_ps(_mm512_min_ps(_mm512_div_ps(first, scale), limit), negative_limit));
    const __m512i c = _mm512_cvtps_epi32(
        _mm512_max_ps(_mm512_min_ps(_mm512_div_ps(second, scale), limit), negative_limit));
    sums[b] = _mm512_reduce_add_epi32(_mm512_add_epi32(a, c));
    _mm_storeu_si128(out, _mm512_cvtepi32_epi8(a));
    _mm_storeu_si128(out + 1, _mm512_cvtepi32_epi8(c));
  }
}

// Dot products over 16 columns of unsigned weights, q[i] holding blocks 2i and 2i + 1. The four
// 128-bit lanes of the result: even blocks (0 2 4 6), first halves; their second halves; odd blocks
// (1 3 5 7), first halves; their second halves.
[[gnu::always_inline]] inline __m512i dot_halves(const __m512i q[4], const std::int8_t* x) {
  const __m512i zero = _mm512_setzero_si512();
  const __m512i a = _mm512_dpbusd_epi32(zero, q[0], load_512(x));
  const __m512i b = _mm512_dpbusd_epi32(zero, q[1], load_512(x + 64));
  const __m512i c = _mm512_dpbusd_epi32(zero, q[2], load_512(x + 128));
  const __m512i d = _mm512_dpbusd_epi32(zero, q[3], load_512(x + 192));
  // A transposing sum of four lanes of four.
  const __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
  const __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
  return _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
}

// First plus second halves: the 8 blocks in even-odd order.
[[gnu::always_inline]] inline __m256i add_halves(__m512i dots) {
  return _mm256_add_epi32(_mm512_castsi512_si256(_mm512_shuffle_i64x2(dots, dots, 0x88)),
                          _mm512_castsi512_si256(_mm512_shuffle_i64x2(dots, dots, 0xdd)));
}

// The 32 low nibbles of 32 bytes, then their high nibbles.
[[gnu::always_inline]] inline __m512i unpack_nibbles(const std::uint8_t* from) {
  const __m512i bytes = _mm512_broadcast_i64x4(load_256(from));
  return _mm512_and_si512(_mm512_mask_srli_epi16(bytes, 0xffff0000u, bytes, 4),
                          _mm512_set1_epi8(15));
}

// (a & mask) | b
[[gnu::always_inline]] inline __m512i masked_or(__m512i a, __m512i mask, __m512i b) {
  return _mm512_ternarylogic_epi32(a, mask, b, 0xea);
}

// Q4_K and Q5_K.
struct ScaleMinWeights {
  __m512i q[4];    // In [0, 31].
  __m256i scales;  // Even-odd order.
  __m256i mins;
  __m256 d, dmin;

  template <typename Block>
  [[gnu::always_inline]] inline void load_scales(const Block* block) {
    const __m128i bytes = load_scales_mins(block->scales);
    scales = _mm256_cvtepu8_epi32(bytes);
    mins = _mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8));
    d = broadcast_half(block->d);
    dmin = broadcast_half(block->dmin);
  }
};

[[gnu::always_inline]] inline float dot_scale_min(const ScaleMinWeights& w,
                                                  const ActivationBlock& x) {
  const __m256i dots = _mm256_mullo_epi32(w.scales, add_halves(dot_halves(w.q, x.q)));
  // A minimum has no high int16 half, so madd is the product: |min * sum| fits.
  const __m256i mins = _mm256_madd_epi16(w.mins, load_256(x.sums));
  const __m256 v = _mm256_fmsub_ps(w.d, _mm256_cvtepi32_ps(dots),
                                   _mm256_mul_ps(w.dmin, _mm256_cvtepi32_ps(mins)));
  return combine_blocks(v, _mm256_load_ps(x.d));
}

struct FormatQ4K {
  using Weights = ScaleMinWeights;
  [[gnu::always_inline]] static inline Weights load(const std::byte* row, std::size_t s,
                                                    std::size_t) {
    const auto* const block = reinterpret_cast<const BlockQ4K*>(row) + s;
    Weights w;
    w.load_scales(block);
#pragma GCC unroll 4
    for (int p = 0; p < 4; ++p) w.q[p] = unpack_nibbles(block->q + 32 * p);
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
    const __m512i bit = _mm512_set1_epi8(16);
    // Bit 2p moves to bit 4 in the first 32 bytes, bit 2p + 1 in the others; what crosses bytes is
    // masked away.
    const __m512i high = _mm512_broadcast_i64x4(load_256(block->q_high));
    const __m512i shift = _mm512_inserti64x4(_mm512_set1_epi16(4), _mm256_set1_epi16(3), 1);
    Weights w;
    w.load_scales(block);
#pragma GCC unroll 4
    for (unsigned p = 0; p < 4; ++p) {
      const __m512i fifth = _mm512_sllv_epi16(_mm512_srli_epi16(high, 2 * p), shift);
      w.q[p] = masked_or(fifth, bit, unpack_nibbles(block->q + 32 * p));
    }
    return w;
  }
  [[gnu::always_inline]] static inline float dot(const Weights& w, const ActivationBlock& x) {
    return dot_scale_min(w, x);
  }
};

struct FormatQ6K {
  struct Weights {
    __m512i q[4];    // In [0, 63]: 32 more than the weights, see half_sums.
    __m512i scales;  // In the order of dot_halves.
    __m256 d;
  };
  [[gnu::always_inline]] static inline Weights load(const std::byte* row, std::size_t s,
                                                    std::size_t) {
    const auto* const block = reinterpret_cast<const BlockQ6K*>(row) + s;
    const __m512i low_bits = _mm512_set1_epi8(15);
    const __m512i high_bits = _mm512_set1_epi8(48);
    const __m512i left = _mm512_inserti64x4(_mm512_set1_epi16(4), _mm256_set1_epi16(2), 1);
    const __m512i right = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(2), 1);
    Weights w;
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      const __m512i low = load_512(block->q_low + 64 * h);
      const __m512i high = _mm512_broadcast_i64x4(load_256(block->q_high + 32 * h));
      w.q[2 * h] =
          masked_or(_mm512_sllv_epi16(high, left), high_bits, _mm512_and_si512(low, low_bits));
      w.q[2 * h + 1] = masked_or(_mm512_srlv_epi16(high, right), high_bits,
                                 _mm512_and_si512(_mm512_srli_epi16(low, 4), low_bits));
    }
    w.scales = _mm512_cvtepi8_epi32(
        _mm_shuffle_epi8(load_128(block->scales),
                         _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15)));
    w.d = broadcast_half(block->d);
    return w;
  }
  [[gnu::always_inline]] static inline float dot(const Weights& w, const ActivationBlock& x) {
    const __m512i dots = _mm512_sub_epi32(dot_halves(w.q, x.q), load_512(x.half_sums));
    const __m256i scaled = add_halves(_mm512_mullo_epi32(dots, w.scales));
    return combine_blocks(_mm256_mul_ps(w.d, _mm256_cvtepi32_ps(scaled)), _mm256_load_ps(x.d));
  }
};

struct FormatQ8_0 {
  struct Weights {
    __m512i q[4];  // In [0, 255]: 128 more than the weights, corrected by sums.
    __m256 d;      // Even-odd order.
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
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(load_256(block[2 * i].q)),
                                              load_256(block[2 * i + 1].q), 1);
      w.q[i] = _mm512_xor_si512(both, _mm512_set1_epi8(-128));
      d[i] = block[2 * i].d;
      d[i + 4] = block[2 * i + 1].d;
    }
    w.d = Avx2::load_half(d);
    return w;
  }
  [[gnu::always_inline]] static inline float dot(const Weights& w, const ActivationBlock& x) {
    const __m256i dots =
        _mm256_sub_epi32(add_halves(dot_halves(w.q, x.q)), _mm256_slli_epi32(load_256(x.sums), 7));
    return combine_blocks(_mm256_mul_ps(w.d, _mm256_cvtepi32_ps(dots)), _mm256_load_ps(x.d));
  }
};

std::uint64_t xor_words(const std::uint64_t* words, std::size_t count) {
  __m512i sum[8];
#pragma GCC unroll 8
  for (int v = 0; v < 8; ++v) sum[v] = _mm512_setzero_si512();
  std::size_t i = 0;
  for (; i + 64 <= count; i += 64) {
#pragma GCC unroll 8
    for (int v = 0; v < 8; ++v) {
      sum[v] = _mm512_xor_si512(sum[v], _mm512_loadu_si512(words + i + 8 * v));
    }
  }
#pragma GCC unroll 7
  for (int v = 1; v < 8; ++v) sum[0] = _mm512_xor_si512(sum[0], sum[v]);
  std::uint64_t lanes[8];
  __builtin_memcpy(lanes, &sum[0], sizeof(lanes));
  std::uint64_t total = 0;
  for (const std::uint64_t lane : lanes) total ^= lane;
  for (; i < count; ++i) total ^= words[i];
  return total;
}

}  // namespace

constinit const SimdKernels kAvx512Kernels = {
    .isa = Isa::kAvx512Vnni,
    .tiles = &kAvx512TileKernels,
    .quantize_row = quantize_row,
    .dot_q8_0 = dot_quantized<FormatQ8_0>,
    .dot_q4_k = dot_quantized<FormatQ4K>,
    .dot_q5_k = dot_quantized<FormatQ5K>,
    .dot_q6_k = dot_quantized<FormatQ6K>,
    .dot_f32 = dot_bytes<Avx512, Scalar, StoredF32>,
    .dot_f16 = dot_bytes<Avx512, Scalar, StoredF16>,
    .dot_bf16 = dot_bytes<Avx512, Scalar, StoredBF16>,
    .scale_by = scale_by<Avx512, Scalar>,
    .add = add<Avx512, Scalar>,
    .swiglu = swiglu<Avx512, Scalar>,
    .rope = rope<Avx512, Scalar>,
    .scores = scores<Avx512, Scalar>,
    .softmax_terms = softmax_terms<Avx512, Scalar>,
    .chunk_values = chunk_values<Avx512, Scalar>,
    .merge_chunk = merge_chunk<Avx512, Scalar>,
    .weighted_sum_f32 = weighted_sum<Avx512, Scalar, StoredF32>,
    .xor_words = xor_words,
};

}  // namespace refute::cpu
