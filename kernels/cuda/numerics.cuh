// The float32 steps that all kernels share, the same bits as kernels/cpu: exp32, the 128-lane order
// and its halving tree, activation quantization. Compiled with -fmad=false; where a fused
// multiply-add is meant, it is written.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/ops.h"
#include "kernels/math.h"

namespace refute::cuda {
namespace {

constexpr unsigned kAllLanes = 0xffffffffu;

// threadIdx.x, which the compiler takes for new each time: what follows from it is computed where
// it is used, and not kept in registers all along.
__device__ inline int thread_anew() {
  int i;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(i));
  return i;
}
constexpr int kWarp = 32;
constexpr int kLanes = 128;  // Of kernels/matmul.h.
constexpr unsigned kInfinityBits = 0x7f800000u;

// exp32 of kernels/math.h, operation by operation.
__device__ inline float exp32_device(float x) {
  const float low = x < kExp32Low ? kExp32Low : x;
  const float clamped = low > kExp32High ? kExp32High : low;
  const float shifted = __fmaf_rn(clamped, kExp32InverseLn2, kExp32Shift);
  const float n = __fsub_rn(shifted, kExp32Shift);
  float r = __fmaf_rn(n, -kExp32Ln2High, clamped);
  r = __fmaf_rn(n, -kExp32Ln2Low, r);
  constexpr float kTerms[kExp32Terms] = {kExp32Taylor[0], kExp32Taylor[1], kExp32Taylor[2],
                                         kExp32Taylor[3], kExp32Taylor[4], kExp32Taylor[5],
                                         kExp32Taylor[6], kExp32Taylor[7]};
  float p = kTerms[0];
#pragma unroll
  for (int i = 1; i < kExp32Terms; ++i) p = __fmaf_rn(p, r, kTerms[i]);
  const int exponent = __float_as_int(shifted) - __float_as_int(kExp32Shift);
  const int half = exponent >> 1;
  const float scale_a = __int_as_float((half + 127) << 23);
  const float scale_b = __int_as_float((exponent - half + 127) << 23);
  return __fmul_rn(__fmul_rn(p, scale_a), scale_b);
}

// silu(gate) * up as in kernels/swiglu.h.
__device__ inline float swiglu_device(float gate, float up) {
  return __fmul_rn(__fdiv_rn(gate, __fadd_rn(1.0f, exp32_device(-gate))), up);
}

// L[0] of the halving tree over 128 lanes; this thread holds L[l], L[l + 32], L[l + 64], L[l + 96]
// for its place l in a full warp. The result is in every thread.
__device__ inline float halving_tree(float a, float b, float c, float d) {
  float v = __fadd_rn(__fadd_rn(a, c), __fadd_rn(b, d));
#pragma unroll
  for (int h = 16; h > 0; h /= 2) v = __fadd_rn(v, __shfl_xor_sync(kAllLanes, v, h));
  return v;
}

// The halving tree where thread i < 128 of the block holds L[i] and has stored it to lanes[i], with
// a barrier behind it. Called by one full warp; the result is in all its threads.
__device__ inline float halving_tree(const float* lanes) {
  const int l = static_cast<int>(threadIdx.x) % kWarp;
  return halving_tree(lanes[l], lanes[l + 32], lanes[l + 64], lanes[l + 96]);
}

// Lane i's fma chain of x . x over c = i, i + 128, ... of `size` elements.
__device__ inline float square_chain(const float* x, int i, int size) {
  float sum = 0.0f;
  for (int c = i; c < size; c += kLanes) sum = __fmaf_rn(x[c], x[c], sum);
  return sum;
}

// 1 / sqrt(sum / size + epsilon), each step rounded.
__device__ inline float rms_scale(float sum, int size, float epsilon) {
  // Exact for powers of two, and so what division gives.
  const float mean = (size & (size - 1)) == 0 ? __fmul_rn(sum, __frcp_rn(static_cast<float>(size)))
                                              : __fdiv_rn(sum, static_cast<float>(size));
  return __frcp_rn(__fsqrt_rn(__fadd_rn(mean, epsilon)));
}

// y[i] = fma(x[i], cos, -(x[j] sin)) and y[j] = fma(x[j], cos, x[i] sin).
__device__ inline float2 rotate(float a, float b, float cosine, float sine) {
  return {__fmaf_rn(a, cosine, -__fmul_rn(b, sine)), __fmaf_rn(b, cosine, __fmul_rn(a, sine))};
}

// What rint(x / d) is within -127 and 127, as the lowest byte of the bits of
// x * (1 / d) + kRoundShift, which rounds as rint does, wherever the product is further from a tie
// than it can be from the quotient, 127 * 2^-21: is_certain.
constexpr float kRoundShift = 12582912.0f;  // 1.5 * 2^23
struct Rounded {
  float shifted;
  bool is_certain;

  __device__ Rounded(float x, float inverse) {
    const float about = __fmul_rn(x, inverse);
    shifted = __fadd_rn(about, kRoundShift);
    is_certain = fabsf(__fsub_rn(about, __fsub_rn(shifted, kRoundShift))) <= 0.4999f;
  }
  __device__ static float divided(float x, float d) {
    const float rounded = rintf(__fdiv_rn(x, d));
    return __fadd_rn(fminf(fmaxf(rounded, -127.0f), 127.0f), kRoundShift);
  }
  __device__ int value() const { return __float_as_int(shifted) - __float_as_int(kRoundShift); }
};

// A block of 32 activations, one a thread of a full warp, as in quant/activations.h.
struct QuantizedBlock {
  int value;  // This thread's.
  float d;
  std::int16_t first_sum;
  std::int16_t second_sum;
};
__device__ inline QuantizedBlock quantize_lane(float x) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  // Without their signs, floats order as their bits do, and NaN and Inf above all others.
  const unsigned max = __reduce_max_sync(kAllLanes, __float_as_uint(x) & 0x7fffffffu);
  const float d =
      max < kInfinityBits ? __fdiv_rn(__uint_as_float(max), 127.0f) : __int_as_float(0x7fffffff);
  int value = 0;
  if (d > 0.0f) {
    Rounded rounded(x, __frcp_rn(d));
    if (!rounded.is_certain) rounded.shifted = Rounded::divided(x, d);
    value = rounded.value();
  }
  // Both sums in one: that of the second 16 in the upper half of the word.
  const int packed = lane < 16 ? value : value * 65536;
  const int total = __reduce_add_sync(kAllLanes, packed);
  const int first = static_cast<std::int16_t>(total & 0xffff);
  return {value, d, static_cast<std::int16_t>(first),
          static_cast<std::int16_t>((total - first) >> 16)};
}
// Stores the int8 of this thread to q[lane] and, by one thread, the block's numbers to *meta.
__device__ inline void quantize_block(float x, std::int8_t* q, ActivationMeta* meta) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const QuantizedBlock of = quantize_lane(x);
  q[lane] = static_cast<std::int8_t>(of.value);
  if (lane == 0) *meta = {of.d, of.first_sum, of.second_sum};
}

// The same for four elements a thread: 8 neighbouring lanes have a block, whose numbers the first
// of them stores to *meta. Returns the four int8.
__device__ inline int quantize_quad(const float x[4], ActivationMeta* meta) {
  unsigned max = 0;
#pragma unroll
  for (int j = 0; j < 4; ++j) max = ::max(max, __float_as_uint(x[j]) & 0x7fffffffu);
#pragma unroll
  for (int h = 1; h < 8; h *= 2) max = ::max(max, __shfl_xor_sync(kAllLanes, max, h));
  const float d =
      max < kInfinityBits ? __fdiv_rn(__uint_as_float(max), 127.0f) : __int_as_float(0x7fffffff);
  unsigned word = 0;
  if (d > 0.0f) {
    const float inverse = __frcp_rn(d);
    Rounded rounded[4] = {{x[0], inverse}, {x[1], inverse}, {x[2], inverse}, {x[3], inverse}};
    if (!(rounded[0].is_certain && rounded[1].is_certain && rounded[2].is_certain &&
          rounded[3].is_certain)) {
#pragma unroll 1
      for (int j = 0; j < 4; ++j) {
        const float shifted = Rounded::divided(j == 0   ? x[0]
                                               : j == 1 ? x[1]
                                               : j == 2 ? x[2]
                                                        : x[3],
                                               d);
#pragma unroll
        for (int n = 0; n < 4; ++n) {  // By constant numbers, so that they stay in registers.
          if (n == j) rounded[n].shifted = shifted;
        }
      }
    }
    const unsigned low = __byte_perm(__float_as_uint(rounded[0].shifted),
                                     __float_as_uint(rounded[1].shifted), 0x0040);
    const unsigned high = __byte_perm(__float_as_uint(rounded[2].shifted),
                                      __float_as_uint(rounded[3].shifted), 0x0040);
    word = __byte_perm(low, high, 0x5410);
  }
  int sum = __dp4a(static_cast<int>(word), 0x01010101, 0);
#pragma unroll
  for (int h = 1; h < 4; h *= 2) sum += __shfl_xor_sync(kAllLanes, sum, h);
  const int second = __shfl_xor_sync(kAllLanes, sum, 4);
  if (threadIdx.x % 8 == 0) {
    *meta = {d, static_cast<std::int16_t>(sum), static_cast<std::int16_t>(second)};
  }
  return static_cast<int>(word);
}

// The device's own conversions round to nearest even and keep subnormals.
__device__ inline std::uint16_t half_bits(float x) { return __half_as_ushort(__float2half_rn(x)); }
__device__ inline float from_half_bits(std::uint16_t bits) {
  return __half2float(__ushort_as_half(bits));
}

__device__ inline bool is_finite_half(std::uint16_t bits) { return (bits & 0x7c00u) != 0x7c00u; }

__device__ inline bool is_finite(float x) {
  return (__float_as_uint(x) & 0x7fffffffu) < kInfinityBits;
}

// Programmatic dependent launch: the kernels in front have finished, and what they wrote is seen.
// Without it, nothing.
__device__ inline void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
// Brings a line of 128 bytes into the second-level cache.
__device__ inline void prefetch_line(const void* at) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(at));
}
// Lets the next kernel start; it still waits in wait_for_previous for this one to end.
__device__ inline void start_next() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

}  // namespace
}  // namespace refute::cuda
