// What kernels are launched on, and CUDA_CHECK. Small on purpose: the CUDA compiler reads it once
// per architecture.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace refute::cuda {

[[noreturn]] void cuda_check_failed(cudaError_t error, const char* call, const char* file,
                                    int line);

#define CUDA_CHECK(call)                                                              \
  do {                                                                                \
    const cudaError_t cuda_check_error = (call);                                      \
    if (cuda_check_error != cudaSuccess)                                              \
      ::refute::cuda::cuda_check_failed(cuda_check_error, #call, __FILE__, __LINE__); \
  } while (false)

// A stream of the device. Borrowed: device.h's Context owns it.
struct Stream {
  cudaStream_t handle = nullptr;
  int num_multiprocessors = 0;
  bool has_clusters = false;
  std::size_t max_shared_bytes = 0;    // Of a block.
  mutable std::uint64_t launches = 0;  // Kernels launched so far.
};

}  // namespace refute::cuda
