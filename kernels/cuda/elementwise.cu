// Ops that touch each element once or twice: RMS norm, quantization, rope, cache append, SwiGLU,
// combine, addition. Contracts: kernels/rms_norm.h, quant/activations.h, rope.h, swiglu.h,
// combine.h.
//
// Grid: one block a row (norm, quantization, rope) or 256 elements a thread block (the others).
// Block: 128 or 256 threads. Shared: at most 516 bytes.
// Moves: inputs and outputs once, 4 bytes an element; bound by launch latency when decoding.
// Numerics: float32, every operation rounded as cpu:: rounds it; bitwise equal to it.
#include "kernels/check.h"
#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/numerics.cuh"
#include "kernels/cuda/ops.h"
#include "kernels/quant/blocks.h"

namespace refute::cuda {
namespace {

constexpr unsigned kThreads = 256;

// x, y [rows, size], weight [size]; block: a row, 128 threads.
__global__ void rms_norm_kernel(const float* x, const float* weight, int size, float epsilon,
                                float* y) {
  __shared__ float lanes[kLanes];
  __shared__ float scale;
  const std::size_t row = static_cast<std::size_t>(blockIdx.x) * static_cast<std::size_t>(size);
  const int i = static_cast<int>(threadIdx.x);
  lanes[i] = square_chain(x + row, i, size);
  __syncthreads();
  if (i < kWarp) {
    const float sum = halving_tree(lanes);
    if (i == 0) scale = rms_scale(sum, size, epsilon);
  }
  __syncthreads();
  for (int c = i; c < size; c += kLanes) {
    y[row + c] = __fmul_rn(__fmul_rn(x[row + c], scale), weight[c]);
  }
}

// x [rows, columns]; q, meta: padded rows. A warp a block of 32; grid.y: rows.
__global__ void quantize_kernel(const float* x, int columns, std::int8_t* q, ActivationMeta* meta,
                                int stride) {
  const int b = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  if (b >= stride / kActivationBlock) return;
  const std::size_t row = blockIdx.y;
  const int c = b * kActivationBlock + lane;
  const float value = c < columns ? x[row * static_cast<std::size_t>(columns) + c] : 0.0f;
  const std::size_t block = row * static_cast<std::size_t>(stride / kActivationBlock) + b;
  quantize_block(value, q + block * kActivationBlock, meta + block);
}

// x [num_tokens, num_heads * head_dim]; grid: (heads, tokens); cosines, sines [positions, half]
__global__ void rope_kernel(const float* cosines, const float* sines, const std::int32_t* position,
                            int half, float* x) {
  const std::size_t t = blockIdx.y;
  const std::size_t table =
      (static_cast<std::size_t>(*position) + t) * static_cast<std::size_t>(half);
  float* head = x + (t * gridDim.x + blockIdx.x) * 2 * static_cast<std::size_t>(half);
  for (int i = static_cast<int>(threadIdx.x); i < half; i += static_cast<int>(blockDim.x)) {
    const float2 turned = rotate(head[i], head[half + i], cosines[table + i], sines[table + i]);
    head[i] = turned.x;
    head[half + i] = turned.y;
  }
}

// x [size] = rows of `columns`; cache rows from state->position on.
__global__ void append_kernel(const float* x, DecodeState* state, std::size_t size,
                              std::size_t columns, std::uint16_t* cache) {
  const std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= size) return;
  store_cached(half_bits(x[i]), state,
               cache + static_cast<std::size_t>(state->position) * columns + i);
}

__global__ void swiglu_kernel(const float* gate, const float* up, std::size_t size, float* y) {
  const std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < size) y[i] = swiglu_device(gate[i], up[i]);
}

__global__ void add_kernel(const float* a, const float* b, std::size_t size, float* y) {
  const std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < size) y[i] = __fadd_rn(a[i], b[i]);
}

// expert_out [num_tokens * k, size], weights [num_tokens, k], y [num_tokens, size]; grid.y: tokens
__global__ void combine_kernel(const float* expert_out, const float* weights, int k,
                               std::size_t size, float* y) {
  const std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const std::size_t t = blockIdx.y;
  if (i >= size) return;
  float sum = 0.0f;
  for (int r = 0; r < k; ++r) {
    const std::size_t slot = t * static_cast<std::size_t>(k) + r;
    sum = __fmaf_rn(weights[slot], expert_out[slot * size + i], sum);
  }
  y[t * size + i] = sum;
}

// grid.y is 16 bits wide: the rows of a call stay below (engine/cuda_sequence.h).
unsigned grid_rows(std::size_t rows) {
  CHECK(rows <= 65535);
  return static_cast<unsigned>(rows);
}

}  // namespace

void rms_norm(const Stream& stream, const float* x, const float* weight, std::size_t num_rows,
              std::size_t size, float epsilon, float* y) {
  CHECK(size > 0);
  Launch{dim3(static_cast<unsigned>(num_rows)), dim3(kLanes)}(stream, rms_norm_kernel, x, weight,
                                                              static_cast<int>(size), epsilon, y);
}

void quantize_activations(const Stream& stream, const float* x, std::size_t rows,
                          std::size_t columns, const DeviceActivations& activations) {
  CHECK(columns % kActivationBlock == 0);
  CHECK(activations.stride == DeviceActivations::stride_for(columns));
  const dim3 grid(blocks_for(activations.stride, kThreads), grid_rows(rows));
  Launch{grid, dim3(kThreads)}(stream, quantize_kernel, x, static_cast<int>(columns), activations.q,
                               activations.meta, static_cast<int>(activations.stride));
}

void rope(const Stream& stream, const float* cosines, const float* sines,
          const std::int32_t* position, std::size_t num_tokens, std::size_t num_heads,
          std::size_t head_dim, float* x) {
  CHECK(head_dim % 2 == 0);
  Launch{dim3(static_cast<unsigned>(num_heads), grid_rows(num_tokens)), dim3(64)}(
      stream, rope_kernel, cosines, sines, position, static_cast<int>(head_dim / 2), x);
}

void append_to_cache(const Stream& stream, const float* x, DecodeState* state,
                     std::size_t num_tokens, std::size_t columns, std::uint16_t* cache) {
  const std::size_t size = num_tokens * columns;
  Launch{dim3(blocks_for(size, kThreads)), dim3(kThreads)}(stream, append_kernel, x, state, size,
                                                           columns, cache);
}

void swiglu(const Stream& stream, const float* gate, const float* up, std::size_t size, float* y) {
  Launch{dim3(blocks_for(size, kThreads)), dim3(kThreads)}(stream, swiglu_kernel, gate, up, size,
                                                           y);
}

void add(const Stream& stream, const float* a, const float* b, std::size_t size, float* y) {
  Launch{dim3(blocks_for(size, kThreads)), dim3(kThreads)}(stream, add_kernel, a, b, size, y);
}

void combine(const Stream& stream, const float* expert_out, const float* weights,
             std::size_t num_tokens, std::size_t num_experts_per_tok, std::size_t size, float* y) {
  const dim3 grid(blocks_for(size, kThreads), grid_rows(num_tokens));
  Launch{grid, dim3(kThreads)}(stream, combine_kernel, expert_out, weights,
                               static_cast<int>(num_experts_per_tok), size, y);
}

}  // namespace refute::cuda
