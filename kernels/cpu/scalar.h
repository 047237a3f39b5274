// One float as a vector type for float_kernels.h: the portable backend, and the ends of rows on the
// others. Internal linkage: see simd.h.
#pragma once

#include <cstddef>
#include <cstdint>

namespace refute::cpu {
namespace {

// LoadHalf::load converts float16, by hardware where the instruction set has it.
template <typename LoadHalf>
struct ScalarVector {
  using Float = float;
  static constexpr std::size_t kWidth = 1;

  static float zero() { return 0.0f; }
  static float set(float value) { return value; }
  static float load(const float* from) { return *from; }
  static float load_half(const std::uint16_t* from) { return LoadHalf::load(from); }
  static float load_bfloat16(const std::uint16_t* from) {
    return __builtin_bit_cast(float, static_cast<std::uint32_t>(*from) << 16);
  }
  static void store(float* to, float value) { *to = value; }
  static float add(float a, float b) { return a + b; }
  static float sub(float a, float b) { return a - b; }
  static float mul(float a, float b) { return a * b; }
  static float div(float a, float b) { return a / b; }
  static float max(float a, float b) { return a > b ? a : b; }
  static float negate(float a) { return -a; }
  static float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
  static float fms(float a, float b, float c) { return __builtin_fmaf(a, b, -c); }
  static float reduce(float a) { return a; }
  static void reduce_four(const float* a, float* sums) {
    for (int i = 0; i < 4; ++i) sums[i] = reduce(a[i]);
  }
  static float reduce_max(float a) { return a; }
};

}  // namespace
}  // namespace refute::cpu
