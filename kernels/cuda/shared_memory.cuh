// Shared memory as instructions take it: addresses, and waiting for a barrier (mbarrier) there.
#pragma once

#include <cuda_runtime.h>

namespace refute::cuda {
namespace {

__device__ inline unsigned shared_address(const void* at) {
  return static_cast<unsigned>(__cvta_generic_to_shared(at));
}

// Until the phase of `parity` has ended: what was written before its arrivals is seen. barrier: a
// shared_address. On devices before compute capability 9.0, nothing.
__device__ inline void wait_for_barrier(unsigned barrier, unsigned parity) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n"
      "}\n" ::"r"(barrier),
      "r"(parity)
      : "memory");
#endif
}

}  // namespace
}  // namespace refute::cuda
