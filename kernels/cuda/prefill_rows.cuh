// Steps of prefill that several kernels share.
#pragma once

#include "kernels/cuda/numerics.cuh"
#include "kernels/cuda/prefill_ops.h"
#include "kernels/cuda/shared_memory.cuh"

namespace refute::cuda {
namespace {

// Copies from global to shared memory that run beside the thread.
__device__ inline void copy_16(void* to_shared, const void* from_global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to_shared)),
               "l"(from_global));
}
// Zeros, and nothing read, unless `exists`.
__device__ inline void copy_16_or_zeros(void* to_shared, const void* from_global, bool exists) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to_shared)),
               "l"(from_global), "r"(exists ? 16 : 0));
}
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;"); }
template <int kPending>
__device__ inline void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// x / d rounded to nearest, as __fdiv_rn's own fast path has it, for d and |x| from 2^-60 to 2^60
// and inverse = inverse_of(d); of a smaller |x| something as small. Without that division's check,
// which is a branch, several overlap.
constexpr float kLeastOperand = 0x1p-60f;
constexpr float kLargestOperand = 0x1p60f;
__device__ inline float inverse_of(float d) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(d));
  return __fmaf_rn(y, __fmaf_rn(-d, y, 1.0f), y);
}
__device__ inline float quotient(float x, float d, float inverse) {
  float q = __fmul_rn(x, inverse);
  q = __fmaf_rn(inverse, __fmaf_rn(-d, q, x), q);
  return __fmaf_rn(inverse, __fmaf_rn(-d, q, x), q);
}

// swiglu_device for four.
__device__ inline void swiglu_quad(const float gate[4], const float up[4], float y[4]) {
  float denominator[4];
  bool is_plain = true;
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    denominator[j] = __fadd_rn(1.0f, exp32_device(-gate[j]));
    is_plain = is_plain && denominator[j] <= kLargestOperand && fabsf(gate[j]) >= kLeastOperand &&
               fabsf(gate[j]) <= kLargestOperand;
  }
  if (is_plain) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      y[j] = __fmul_rn(quotient(gate[j], denominator[j], inverse_of(denominator[j])), up[j]);
    }
  } else {
#pragma unroll
    for (int j = 0; j < 4; ++j) y[j] = __fmul_rn(__fdiv_rn(gate[j], denominator[j]), up[j]);
  }
}

// quantize_block of numerics.cuh, in the order of TensorActivations: block b of a row.
__device__ inline void quantize_tensor_block(float x, int lane, int row, int b,
                                             const TensorActivations& to) {
  const QuantizedBlock of = quantize_lane(x);
  const std::size_t at = static_cast<std::size_t>(row) * to.stride;
  const int place = 64 * (b / 2) + 16 * (lane % 16 / 4) + 8 * (b % 2) + 4 * (lane / 16) + lane % 4;
  to.q[at + static_cast<std::size_t>(place)] = static_cast<std::int8_t>(of.value);
  if (lane == 0) {
    to.scales[at / 32 + static_cast<std::size_t>(b)] = {
        of.d, __int2float_rn(of.first_sum + of.second_sum)};
  }
}

// The same for four elements a thread, with divisions that overlap: 8 neighbouring lanes have a
// block, b, of a row. Nothing is stored for a row below 0.
__device__ inline void quantize_tensor_quad(const float x[4], int lane, int row, int b,
                                            const TensorActivations& to) {
  unsigned max = 0;
#pragma unroll
  for (int j = 0; j < 4; ++j) max = ::max(max, __float_as_uint(x[j]) & 0x7fffffffu);
#pragma unroll
  for (int h = 1; h < 8; h *= 2) max = ::max(max, __shfl_xor_sync(kAllLanes, max, h));
  const bool is_plain = max >= __float_as_uint(256.0f * kLeastOperand) &&
                        max <= __float_as_uint(kLargestOperand);  // And so is d.
  float d = __int_as_float(0x7fffffff);
  int value[4] = {};
  if (is_plain) {
    d = quotient(__uint_as_float(max), 127.0f, 1.0f / 127.0f);
    const float inverse = inverse_of(d);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      // What is less than half is 0, however it is rounded before.
      value[j] = static_cast<int>(fminf(fmaxf(rintf(quotient(x[j], d, inverse)), -127.0f), 127.0f));
    }
  } else if (max < kInfinityBits) {
    d = __fdiv_rn(__uint_as_float(max), 127.0f);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (!(d > 0.0f)) continue;
      value[j] = static_cast<int>(fminf(fmaxf(rintf(__fdiv_rn(x[j], d)), -127.0f), 127.0f));
    }
  }
  int sum = 0;
  unsigned word = 0;
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    sum += value[j];
    word |= (static_cast<unsigned>(value[j]) & 0xffu) << (8 * j);
  }
#pragma unroll
  for (int h = 1; h < 8; h *= 2) sum += __shfl_xor_sync(kAllLanes, sum, h);
  if (row < 0) return;
  const std::size_t at = static_cast<std::size_t>(row) * to.stride;
  const int place = 64 * (b / 2) + 16 * (lane % 4) + 8 * (b % 2) + 4 * (lane % 8 / 4);
  *reinterpret_cast<unsigned*>(to.q + at + static_cast<std::size_t>(place)) = word;
  if (lane % 8 == 0) {
    to.scales[at / 32 + static_cast<std::size_t>(b)] = {d, __int2float_rn(sum)};
  }
}

}  // namespace
}  // namespace refute::cuda
