// Kernels with faults. Contract: kernels/cuda/faulty.h.
//
// Grid: a block a row (norms), (256 elements, tokens, ranks) (combine). Block: 128, 256. Shared: at
// most 516 bytes. Numerics: wrong on purpose. Threads wait for a time that differs from run to run
// where the fault is one of order, so that it shows.
#include "kernels/cuda/faulty.h"

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/numerics.cuh"

namespace refute::cuda::faulty {
namespace {

constexpr unsigned kThreads = 256;

__device__ void wait_nanoseconds(unsigned nanoseconds) { __nanosleep(nanoseconds); }

// 0 to 2047 ns, another one each time.
__device__ void wait_a_while() {
  unsigned low;
  asm volatile("mov.u32 %0, %%clock;" : "=r"(low));
  wait_nanoseconds((low * 2654435761u) >> 21);
}

__global__ void rms_norm_without_barrier_kernel(const float* x, const float* weight, int size,
                                                float epsilon, float* y) {
  __shared__ float lanes[kLanes];
  __shared__ float scale;
  const std::size_t row = static_cast<std::size_t>(blockIdx.x) * static_cast<std::size_t>(size);
  const int i = static_cast<int>(threadIdx.x);
  const float sum_of_squares = square_chain(x + row, i, size);
  if (i >= kWarp) wait_a_while();
  lanes[i] = sum_of_squares;
  if (i < kWarp) {
    wait_a_while();
    const float sum = halving_tree(lanes);
    if (i == 0) scale = rms_scale(sum, size, epsilon);
  }
  __syncthreads();
  for (int c = i; c < size; c += kLanes) {
    y[row + c] = __fmul_rn(__fmul_rn(x[row + c], scale), weight[c]);
  }
}

__global__ void rms_norm_with_divergent_tail_kernel(const float* x, const float* weight, int size,
                                                    float epsilon, float* y) {
  const std::size_t row = static_cast<std::size_t>(blockIdx.x) * static_cast<std::size_t>(size);
  const int i = static_cast<int>(threadIdx.x);
  const int whole = size / kWarp * kWarp;
  float sum = 0.0f;
  for (int c = i; c < whole; c += kWarp) sum = __fmaf_rn(x[row + c], x[row + c], sum);
  if (i < size - whole) {
    // The others don't come here: their sums of the whole part don't reach this tree.
    sum = __fmaf_rn(x[row + whole + i], x[row + whole + i], sum);
    for (int h = 16; h > 0; h /= 2) sum += __shfl_xor_sync(__activemask(), sum, h);
  } else {
    for (int h = 16; h > 0; h /= 2) sum += __shfl_xor_sync(__activemask(), sum, h);
  }
  const float scale = rms_scale(sum, size, epsilon);
  for (int c = i; c < size; c += kWarp) {
    y[row + c] = __fmul_rn(__fmul_rn(x[row + c], scale), weight[c]);
  }
}

// grid.z: ranks; y starts as zeros
__global__ void combine_with_atomics_kernel(const float* expert_out, const float* weights, int k,
                                            std::size_t size, float* y) {
  const std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const std::size_t t = blockIdx.y;
  if (i >= size) return;
  const std::size_t slot = t * static_cast<std::size_t>(k) + blockIdx.z;
  wait_a_while();
  atomicAdd(y + t * size + i, __fmul_rn(weights[slot], expert_out[slot * size + i]));
}

__global__ void fill_kernel(float* y) {
  extern __shared__ float shared[];
  shared[threadIdx.x] = 1.0f;
  y[threadIdx.x] = shared[threadIdx.x];
}

__global__ void delay_kernel(unsigned microseconds) {
  for (unsigned waited = 0; waited < microseconds; ++waited) wait_nanoseconds(1000);
}

}  // namespace

void rms_norm_without_barrier(const Stream& stream, const float* x, const float* weight,
                              std::size_t num_rows, std::size_t size, float epsilon, float* y) {
  Launch{dim3(static_cast<unsigned>(num_rows)), dim3(kLanes)}(
      stream, rms_norm_without_barrier_kernel, x, weight, static_cast<int>(size), epsilon, y);
}

void rms_norm_with_divergent_tail(const Stream& stream, const float* x, const float* weight,
                                  std::size_t num_rows, std::size_t size, float epsilon, float* y) {
  Launch{dim3(static_cast<unsigned>(num_rows)), dim3(kWarp)}(
      stream, rms_norm_with_divergent_tail_kernel, x, weight, static_cast<int>(size), epsilon, y);
}

void combine_with_atomics(const Stream& stream, const float* expert_out, const float* weights,
                          std::size_t num_tokens, std::size_t num_experts_per_tok, std::size_t size,
                          float* y) {
  CUDA_CHECK(cudaMemsetAsync(y, 0, num_tokens * size * sizeof(float), stream.handle));
  const dim3 grid(blocks_for(size, kThreads), static_cast<unsigned>(num_tokens),
                  static_cast<unsigned>(num_experts_per_tok));
  Launch{grid, dim3(kThreads)}(stream, combine_with_atomics_kernel, expert_out, weights,
                               static_cast<int>(num_experts_per_tok), size, y);
}

void launch_with_too_much_shared(const Stream& stream, float* y) {
  constexpr std::size_t kTooMuch = std::size_t{1} << 20;
  fill_kernel<<<1, 32, kTooMuch, stream.handle>>>(y);
  (void)cudaGetLastError();  // The fault.
}

void delay(const Stream& stream, unsigned microseconds) {
  Launch{dim3(1), dim3(1)}(stream, delay_kernel, microseconds);
}

}  // namespace refute::cuda::faulty
