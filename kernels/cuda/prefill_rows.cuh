// Steps of prefill that several kernels share.
#pragma once

#include "kernels/cuda/numerics.cuh"
#include "kernels/cuda/prefill_ops.h"

namespace refute::cuda {
namespace {

// Copies from global to shared memory that run beside the thread.
__device__ inline unsigned shared_address(const void* at) {
  return static_cast<unsigned>(__cvta_generic_to_shared(at));
}
__device__ inline void copy_16(void* to_shared, const void* from_global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to_shared)),
               "l"(from_global));
}
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;"); }
template <int kPending>
__device__ inline void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// quantize_block of numerics.cuh, in the order of TensorActivations: block b of a row.
__device__ inline void quantize_tensor_block(float x, int lane, int row, int b,
                                             const TensorActivations& to) {
  const unsigned max = __reduce_max_sync(kAllLanes, __float_as_uint(x) & 0x7fffffffu);
  const float d =
      max < kInfinityBits ? __fdiv_rn(__uint_as_float(max), 127.0f) : __int_as_float(0x7fffffff);
  int value = 0;
  if (d > 0.0f) {
    const float rounded = rintf(__fdiv_rn(x, d));
    value = static_cast<int>(fminf(fmaxf(rounded, -127.0f), 127.0f));
  }
  const std::size_t at = static_cast<std::size_t>(row) * to.stride;
  const int place = 64 * (b / 2) + 16 * (lane % 16 / 4) + 8 * (b % 2) + 4 * (lane / 16) + lane % 4;
  to.q[at + static_cast<std::size_t>(place)] = static_cast<std::int8_t>(value);
  const int sum = __reduce_add_sync(kAllLanes, value);
  if (lane == 0) {
    to.scales[at / 32 + static_cast<std::size_t>(b)] = {d, __int2float_rn(sum)};
  }
}

}  // namespace
}  // namespace refute::cuda
