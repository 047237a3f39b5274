// What the kernels of one decoded token share beside fragment.cuh and numerics.cuh.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/numerics.cuh"
#include "kernels/cuda/shared_memory.cuh"

namespace refute::cuda {
namespace {

// The element 0 of dynamic shared memory, aligned for every use.
__device__ inline std::uint8_t* dynamic_shared() {
  extern __shared__ uint4 dynamic[];
  return reinterpret_cast<std::uint8_t*>(dynamic);
}

// ((0 + S[0]) + S[1]) + ... of row r of group g.
__device__ inline float ordered_sum(const float* sums, int g, int r, int super_blocks) {
  float y = 0.0f;
#pragma unroll 8
  for (int s = 0; s < super_blocks; ++s) y = __fadd_rn(y, sums[(g * super_blocks + s) * 8 + r]);
  return y;
}

// Brings part `part` of `parts` of `bytes` at `from`, a multiple of 16, into the second-level
// cache: one instruction of one thread. Where the hardware has none, nothing is brought.
__device__ inline void prefetch_part(const std::uint8_t* from, std::size_t bytes, unsigned part,
                                     unsigned parts) {
#if __CUDA_ARCH__ >= 900
  const auto units = static_cast<unsigned>(bytes / 16);
  const unsigned begin = static_cast<unsigned>(std::uint64_t{units} * part / parts);
  const unsigned end = static_cast<unsigned>(std::uint64_t{units} * (part + 1) / parts);
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(
                   from + static_cast<std::size_t>(begin) * 16),
               "r"((end - begin) * 16));
#endif
}

}  // namespace
}  // namespace refute::cuda
