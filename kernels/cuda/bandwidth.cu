// The read bandwidth of the device: a stream of 16-byte loads over more memory than its caches
// hold.
//
// Grid: 2 blocks a multiprocessor. Block: 1024 threads. Shared: none. Moves: every byte once; bound
// by memory. Numerics: none.
#include <vector>

#include "kernels/check.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ops.h"

namespace refute::cuda {
namespace {

constexpr int kPasses = 8;
constexpr std::size_t kUnroll = 8;

// Every thread reads `rounds` times kUnroll elements. The sum keeps the loads alive; without
// a sink it is not written.
__global__ void __launch_bounds__(1024)
    read_kernel(const uint4* data, std::size_t rounds, unsigned* sink) {
  const std::size_t threads = static_cast<std::size_t>(gridDim.x) * blockDim.x;
  const uint4* from = data + static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  unsigned sum = 0;
  for (std::size_t round = 0; round < rounds; ++round, from += kUnroll * threads) {
    uint4 v[kUnroll];
#pragma unroll
    for (std::size_t u = 0; u < kUnroll; ++u) v[u] = __ldcs(from + u * threads);
#pragma unroll
    for (std::size_t u = 0; u < kUnroll; ++u) sum ^= v[u].x ^ v[u].y ^ v[u].z ^ v[u].w;
  }
  if (sink != nullptr) atomicXor(sink, sum);
}

}  // namespace

ReadBandwidth measure_read_bandwidth(const Stream& stream, const std::uint8_t* data,
                                     std::size_t bytes) {
  const auto blocks = static_cast<std::size_t>(2 * stream.num_multiprocessors);
  const std::size_t round_bytes = blocks * 1024 * kUnroll * sizeof(uint4);
  const std::size_t rounds = bytes / round_bytes;
  CHECK(rounds > 0);
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  CUDA_CHECK(cudaEventCreate(&begin));
  CUDA_CHECK(cudaEventCreate(&end));
  const dim3 grid(static_cast<unsigned>(blocks));
  std::vector<double> rates;
  for (int pass = 0; pass < kPasses; ++pass) {
    CUDA_CHECK(cudaEventRecord(begin, stream.handle));
    Launch{grid, dim3(1024)}(stream, read_kernel, reinterpret_cast<const uint4*>(data), rounds,
                             static_cast<unsigned*>(nullptr));
    CUDA_CHECK(cudaEventRecord(end, stream.handle));
    CUDA_CHECK(cudaEventSynchronize(end));
    float milliseconds = 0.0f;
    CUDA_CHECK(cudaEventElapsedTime(&milliseconds, begin, end));
    if (pass == 0) continue;  // It warms up.
    rates.push_back(static_cast<double>(rounds * round_bytes) / (1e-3 * milliseconds));
  }
  CUDA_CHECK(cudaEventDestroy(begin));
  CUDA_CHECK(cudaEventDestroy(end));
  return ReadBandwidth::of(rates);
}

}  // namespace refute::cuda
