// Copies of whole pieces of weights to shared memory that go on while a kernel waits for the one in
// front of it, and cost no registers.
#pragma once

#include <cuda_pipeline.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/numerics.cuh"

namespace refute::cuda {
namespace {

// The element 0 of dynamic shared memory, aligned for every use.
__device__ inline std::uint8_t* dynamic_shared() {
  extern __shared__ uint4 dynamic[];
  return reinterpret_cast<std::uint8_t*>(dynamic);
}

// kPieces pieces, each of which may be waited for alone. On devices without bulk copies all pieces
// are there when the first is.
template <int kPieces>
class Staging {
 public:
  // In shared memory. All threads; barrier inside.
  __device__ explicit Staging(std::uint64_t* barriers) : barriers_(barriers) {
#if __CUDA_ARCH__ >= 900
    if (threadIdx.x == 0) {
#pragma unroll
      for (int i = 0; i < kPieces; ++i) {
        asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(address(barriers_ + i)));
      }
      asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
#endif
    __syncthreads();
  }

  // Starts the copy of `bytes`, a multiple of 16, to `to`, of piece i. All threads call it once for
  // each piece that is waited for.
  __device__ void start(int i, std::uint8_t* to, const std::uint8_t* from, unsigned bytes) const {
#if __CUDA_ARCH__ >= 900
    if (threadIdx.x != 0) return;
    asm volatile(
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(address(barriers_ + i)),
        "r"(bytes)
        : "memory");
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
            "r"(address(to)),
        "l"(from), "r"(bytes), "r"(address(barriers_ + i))
        : "memory");
#else
    for (unsigned at = 16 * threadIdx.x; at < bytes; at += 16 * blockDim.x) {
      __pipeline_memcpy_async(to + at, from + at, 16);
    }
    __pipeline_commit();
#endif
  }

  // All threads, before the first wait: what waits for every piece where pieces can't be told
  // apart.
  __device__ void settle() const {
#if __CUDA_ARCH__ < 900
    __pipeline_wait_prior(0);
    __syncthreads();
#endif
  }

  // This thread sees piece i from here on.
  __device__ void wait(int i) const {
#if __CUDA_ARCH__ >= 900
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "again:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], 0;\n"
        "@!done bra again;\n"
        "}\n" ::"r"(address(barriers_ + i))
        : "memory");
#endif
  }

 private:
  __device__ static unsigned address(const void* at) {
    return static_cast<unsigned>(__cvta_generic_to_shared(at));
  }

  std::uint64_t* barriers_;
};

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
