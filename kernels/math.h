// exp32: the float32 exponential of the fast backends, one fixed sequence of correctly rounded
// operations, so that every instruction set and backend gives the same bits (libm and CUDA differ).
//
// x = n ln 2 + r with n = nearest integer, exp(r) by its Taylor polynomial of degree 7 in Horner
// form with fma, then two exact-or-once-rounded scalings by powers of two, so that results below
// 2^-126 underflow gradually. Error below 1 ulp over the normal range; exp32(-inf) = 0, exp32(inf)
// = inf, NaN stays NaN.
//
// Internal linkage and builtins in place of std:: on purpose: see kernels/cpu/simd.h.
#pragma once

#include <cstdint>

namespace refute {

// Past these bounds the result is 0 or inf in any case.
constexpr float kExp32Low = -104.0f;
constexpr float kExp32High = 89.0f;
constexpr float kExp32InverseLn2 = 1.44269504088896341f;
// Adding and subtracting 1.5 * 2^23 rounds to the nearest integer (half to even).
constexpr float kExp32Shift = 12582912.0f;
// ln 2 in two parts; n * kExp32Ln2High is exact for |n| < 2^8.
constexpr float kExp32Ln2High = 0x1.62e4p-1f;
constexpr float kExp32Ln2Low = 0x1.7f7d1cp-20f;
// 1 / 7!, 1 / 6!, ..., 1 / 0!
constexpr int kExp32Terms = 8;
constexpr float kExp32Taylor[kExp32Terms] = {
    1.0f / 5040.0f, 1.0f / 720.0f, 1.0f / 120.0f, 1.0f / 24.0f, 1.0f / 6.0f, 0.5f, 1.0f, 1.0f};

static inline float exp32(float x) {
  // NaN passes both comparisons unchanged.
  const float low = x < kExp32Low ? kExp32Low : x;
  const float clamped = low > kExp32High ? kExp32High : low;
  const float shifted = __builtin_fmaf(clamped, kExp32InverseLn2, kExp32Shift);
  const float n = shifted - kExp32Shift;
  float r = __builtin_fmaf(n, -kExp32Ln2High, clamped);
  r = __builtin_fmaf(n, -kExp32Ln2Low, r);
  float p = kExp32Taylor[0];
  for (int i = 1; i < kExp32Terms; ++i) p = __builtin_fmaf(p, r, kExp32Taylor[i]);
  // 2^n as a product of two normal floats: n in [-150, 128]. The first product is exact.
  const std::int32_t exponent =
      __builtin_bit_cast(std::int32_t, shifted) - __builtin_bit_cast(std::int32_t, kExp32Shift);
  const std::int32_t half = exponent >> 1;
  const float scale_a = __builtin_bit_cast(float, (half + 127) << 23);
  const float scale_b = __builtin_bit_cast(float, (exponent - half + 127) << 23);
  return (p * scale_a) * scale_b;
}

}  // namespace refute
