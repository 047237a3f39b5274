// The 16-float vector type of float_kernels.h. Internal linkage: see simd.h.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/vector_avx2.h"

namespace refute::cpu {
namespace {

__m512i load_512(const void* from) { return _mm512_loadu_si512(from); }

struct Avx512 {
  using Float = __m512;
  static constexpr std::size_t kWidth = 16;

  static Float zero() { return _mm512_setzero_ps(); }
  static Float set(float value) { return _mm512_set1_ps(value); }
  static Float load(const float* from) { return _mm512_loadu_ps(from); }
  static Float load_half(const std::uint16_t* from) { return _mm512_cvtph_ps(load_256(from)); }
  static Float load_bfloat16(const std::uint16_t* from) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load_256(from)), 16));
  }
  static void store(float* to, Float value) { _mm512_storeu_ps(to, value); }
  static Float add(Float a, Float b) { return _mm512_add_ps(a, b); }
  static Float sub(Float a, Float b) { return _mm512_sub_ps(a, b); }
  static Float mul(Float a, Float b) { return _mm512_mul_ps(a, b); }
  static Float div(Float a, Float b) { return _mm512_div_ps(a, b); }
  static Float min(Float a, Float b) { return _mm512_min_ps(a, b); }
  static Float max(Float a, Float b) { return _mm512_max_ps(a, b); }
  static Float negate(Float a) { return _mm512_xor_ps(a, _mm512_set1_ps(-0.0f)); }
  static Float fma(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
  static Float fms(Float a, Float b, Float c) { return _mm512_fmsub_ps(a, b, c); }

  static Float scale_by_power(Float p, Float shifted) {
    const __m512i exponent = _mm512_sub_epi32(_mm512_castps_si512(shifted),
                                              _mm512_castps_si512(_mm512_set1_ps(kExp32Shift)));
    const __m512i bias = _mm512_set1_epi32(127);
    const __m512i half = _mm512_srai_epi32(exponent, 1);
    const __m512i scale_a = _mm512_slli_epi32(_mm512_add_epi32(half, bias), 23);
    const __m512i scale_b =
        _mm512_slli_epi32(_mm512_add_epi32(_mm512_sub_epi32(exponent, half), bias), 23);
    return _mm512_mul_ps(_mm512_mul_ps(p, _mm512_castsi512_ps(scale_a)),
                         _mm512_castsi512_ps(scale_b));
  }

  static float reduce(Float a) {
    return Avx2::reduce(_mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1)));
  }
  // Halves of two vectors stand side by side, then quarters of all four: the same additions.
  static void reduce_four(const Float* a, float* sums) {
    const Float first = _mm512_add_ps(_mm512_shuffle_f32x4(a[0], a[1], 0x44),
                                      _mm512_shuffle_f32x4(a[0], a[1], 0xee));
    const Float second = _mm512_add_ps(_mm512_shuffle_f32x4(a[2], a[3], 0x44),
                                       _mm512_shuffle_f32x4(a[2], a[3], 0xee));
    const Float all = _mm512_add_ps(_mm512_shuffle_f32x4(first, second, 0x88),
                                    _mm512_shuffle_f32x4(first, second, 0xdd));
    const Float two = _mm512_add_ps(all, _mm512_permute_ps(all, 0x4e));
    const Float one = _mm512_add_ps(two, _mm512_permute_ps(two, 0xb1));
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    _mm_storeu_ps(sums, _mm512_castps512_ps128(_mm512_permutexvar_ps(order, one)));
  }
  static float reduce_max(Float a) {
    return Avx2::reduce_max(_mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1)));
  }
};

}  // namespace
}  // namespace refute::cpu
