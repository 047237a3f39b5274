// A mistake for each tool of compute-sanitizer to find, so that a tool that finds nothing in the
// kernels is known to look:
//
//   cuda_planted memcheck     one element written past the end of an allocation
//   cuda_planted racecheck    a reduction without the barrier in front of it
//   cuda_planted initcheck    memory that is read and was never written
//   cuda_planted synccheck    a barrier that half of a block does not reach
//
// Exits with 0 when the kernel ran, whatever it did; 2 for another name.
#include <cuda_runtime.h>

#include <cstdio>
#include <cstring>

namespace {

constexpr int kThreads = 128;

__global__ void write_past_the_end(float* y, int size) {
  const int i = static_cast<int>(threadIdx.x);
  if (i <= size) y[i] = 1.0f;
}

__global__ void reduce_without_barrier(float* y) {
  __shared__ float lanes[kThreads];
  const int i = static_cast<int>(threadIdx.x);
  lanes[i] = static_cast<float>(i);
  if (i == 0) {
    float sum = 0.0f;
    for (int j = 0; j < kThreads; ++j) sum += lanes[j];
    *y = sum;
  }
}

__global__ void read_what_nobody_wrote(const float* x, float* y) { *y = x[threadIdx.x] + 1.0f; }

__global__ void half_a_barrier(float* y) {
  const int i = static_cast<int>(threadIdx.x);
  if (i % 2 == 0) {
    y[i] = 1.0f;
    __syncthreads();
  }
  y[i] = 2.0f;
}

}  // namespace

int main(int argc, char** argv) {
  const char* const name = argc > 1 ? argv[1] : "";
  float* x = nullptr;
  float* y = nullptr;
  if (cudaMalloc(&x, kThreads * sizeof(float)) != cudaSuccess ||
      cudaMalloc(&y, kThreads * sizeof(float)) != cudaSuccess) {
    std::fprintf(stderr, "no device memory\n");
    return 3;
  }
  if (std::strcmp(name, "memcheck") == 0) {
    write_past_the_end<<<1, kThreads + 32>>>(y, kThreads);
  } else if (std::strcmp(name, "racecheck") == 0) {
    reduce_without_barrier<<<1, kThreads>>>(y);
  } else if (std::strcmp(name, "initcheck") == 0) {
    read_what_nobody_wrote<<<1, 1>>>(x, y);
  } else if (std::strcmp(name, "synccheck") == 0) {
    half_a_barrier<<<1, kThreads>>>(y);
  } else {
    std::fprintf(stderr, "cuda_planted memcheck | racecheck | initcheck | synccheck\n");
    return 2;
  }
  const cudaError_t error = cudaDeviceSynchronize();
  if (error != cudaSuccess) std::fprintf(stderr, "%s\n", cudaGetErrorString(error));
  return 0;
}
