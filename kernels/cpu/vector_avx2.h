// The 8-float vector type of float_kernels.h. Internal linkage: see simd.h.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/scalar.h"
#include "kernels/math.h"

namespace refute::cpu {
namespace {

struct HardwareHalf {
  static float load(const std::uint16_t* from) {
    return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(*from)));
  }
};
using Scalar = ScalarVector<HardwareHalf>;

// 8 bytes or 16 bytes from memory without an alignment.
__m128i load_128(const void* from) { return _mm_loadu_si128(static_cast<const __m128i*>(from)); }
__m256i load_256(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }

struct Avx2 {
  using Float = __m256;
  static constexpr std::size_t kWidth = 8;

  static Float zero() { return _mm256_setzero_ps(); }
  static Float set(float value) { return _mm256_set1_ps(value); }
  static Float load(const float* from) { return _mm256_loadu_ps(from); }
  static Float load_half(const std::uint16_t* from) { return _mm256_cvtph_ps(load_128(from)); }
  static Float load_bfloat16(const std::uint16_t* from) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_128(from)), 16));
  }
  static void store(float* to, Float value) { _mm256_storeu_ps(to, value); }
  static Float add(Float a, Float b) { return _mm256_add_ps(a, b); }
  static Float sub(Float a, Float b) { return _mm256_sub_ps(a, b); }
  static Float mul(Float a, Float b) { return _mm256_mul_ps(a, b); }
  static Float div(Float a, Float b) { return _mm256_div_ps(a, b); }
  static Float min(Float a, Float b) { return _mm256_min_ps(a, b); }
  static Float max(Float a, Float b) { return _mm256_max_ps(a, b); }
  static Float negate(Float a) { return _mm256_xor_ps(a, _mm256_set1_ps(-0.0f)); }
  static Float fma(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
  static Float fms(Float a, Float b, Float c) { return _mm256_fmsub_ps(a, b, c); }

  static Float scale_by_power(Float p, Float shifted) {
    const __m256i exponent = _mm256_sub_epi32(_mm256_castps_si256(shifted),
                                              _mm256_castps_si256(_mm256_set1_ps(kExp32Shift)));
    const __m256i bias = _mm256_set1_epi32(127);
    const __m256i half = _mm256_srai_epi32(exponent, 1);
    const __m256i scale_a = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
    const __m256i scale_b =
        _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(exponent, half), bias), 23);
    return _mm256_mul_ps(_mm256_mul_ps(p, _mm256_castsi256_ps(scale_a)),
                         _mm256_castsi256_ps(scale_b));
  }

  static float reduce(Float a) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  static void reduce_four(const Float* a, float* sums) {
    for (int i = 0; i < 4; ++i) sums[i] = reduce(a[i]);
  }
  static float reduce_max(Float a) {
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }
};

// A float16 in all 8 lanes.
[[maybe_unused]] __m256 broadcast_half(std::uint16_t half) {
  return _mm256_cvtph_ps(_mm_set1_epi16(static_cast<short>(half)));
}

// S[s] of kernels/matmul.h: v and d hold the 8 blocks in even-odd order.
[[maybe_unused]] float combine_blocks(__m256 v, __m256 d) {
  const __m128 even = _mm_mul_ps(_mm256_castps256_ps128(d), _mm256_castps256_ps128(v));
  const __m128 u = _mm_fmadd_ps(_mm256_extractf128_ps(d, 1), _mm256_extractf128_ps(v, 1), even);
  const __m128 pairs = _mm_add_ps(u, _mm_movehdup_ps(u));
  return _mm_cvtss_f32(_mm_add_ss(pairs, _mm_movehl_ps(pairs, pairs)));
}

// The 8 scales and then the 8 minimums of Q4_K and Q5_K as bytes, each in even-odd order.
[[maybe_unused]] __m128i load_scales_mins(const std::uint8_t scales[12]) {
  std::uint32_t a, b, c;
  __builtin_memcpy(&a, scales, 4);
  __builtin_memcpy(&b, scales + 4, 4);
  __builtin_memcpy(&c, scales + 8, 4);
  const std::uint32_t scales_high = (c & 0x0f0f0f0fu) | ((a >> 2) & 0x30303030u);
  const std::uint32_t mins_high = ((c >> 4) & 0x0f0f0f0fu) | ((b >> 2) & 0x30303030u);
  const __m128i in_order =
      _mm_set_epi32(static_cast<int>(mins_high), static_cast<int>(b & 0x3f3f3f3fu),
                    static_cast<int>(scales_high), static_cast<int>(a & 0x3f3f3f3fu));
  return _mm_shuffle_epi8(in_order,
                          _mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15));
}

}  // namespace
}  // namespace refute::cpu
