// The read bandwidth of the device: a stream of 16-byte loads over more memory than its caches
// hold.
//
// Grid: 2 blocks a multiprocessor. Block: 1024 threads. Shared: none. Moves: every byte once; bound
// by memory. Numerics: none.
#include <algorithm>

#include "kernels/check.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ops.h"

namespace refute::cuda {
namespace {

constexpr int kPasses = 8;
constexpr std::size_t kUnroll = 8;

// The sum keeps the loads alive; it never equals `impossible`, so nothing is written.
__global__ void __launch_bounds__(1024)
    read_kernel(const uint4* data, std::size_t size, unsigned impossible, unsigned* sink) {
  const std::size_t threads = static_cast<std::size_t>(gridDim.x) * blockDim.x;
  unsigned sum = 0;
  for (std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < size;
       i += kUnroll * threads) {
#pragma unroll
    for (std::size_t u = 0; u < kUnroll; ++u) {
      const std::size_t at = i + u * threads;
      if (at >= size) break;
      const uint4 v = __ldcs(data + at);
      sum |= v.x ^ v.y ^ v.z ^ v.w;
    }
  }
  if (sum == impossible && sum == 1u) *sink = sum;
}

}  // namespace

double measure_read_bandwidth(const Context& context, const std::uint8_t* data, std::size_t bytes) {
  CHECK(bytes >= 16);
  const std::size_t size = bytes / sizeof(uint4);
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  CUDA_CHECK(cudaEventCreate(&begin));
  CUDA_CHECK(cudaEventCreate(&end));
  const dim3 grid(static_cast<unsigned>(2 * context.device().num_multiprocessors));
  double best = 0.0;
  for (int pass = 0; pass < kPasses; ++pass) {
    CUDA_CHECK(cudaEventRecord(begin, context.stream()));
    Launch{grid, dim3(1024)}(context, read_kernel, reinterpret_cast<const uint4*>(data), size, 0u,
                             static_cast<unsigned*>(nullptr));
    CUDA_CHECK(cudaEventRecord(end, context.stream()));
    CUDA_CHECK(cudaEventSynchronize(end));
    float milliseconds = 0.0f;
    CUDA_CHECK(cudaEventElapsedTime(&milliseconds, begin, end));
    if (pass == 0) continue;  // It warms up.
    best = std::max(best, static_cast<double>(size * sizeof(uint4)) / (1e-3 * milliseconds));
  }
  CUDA_CHECK(cudaEventDestroy(begin));
  CUDA_CHECK(cudaEventDestroy(end));
  return best;
}

}  // namespace refute::cuda
