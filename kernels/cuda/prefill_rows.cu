// What stands between the products of prefill: residual, combine, norm and quantization in one pass
// over a row; norms, rope and cache of the heads in one; router logits; slots by expert. Contracts:
// kernels/rms_norm.h, combine.h, quant/activations.h, rope.h, matmul.h (float weights),
// engine/moe_slots.h.
//
// Grid: a block a row of hidden; a warp a head; 16 tokens x 16 experts; a block an expert.
// Block: 128, 256, 512, 256 threads. Shared: a row of float32; none; none; 4 bytes an expert.
// Moves: every operand once; expert_out, 4 * k * hidden_size bytes a token, is most of it. Router
// operands 16 times less often than used, from the first-level cache. Bound by memory.
// Numerics: float32, every operation rounded as cpu:: rounds it; bitwise equal to it.
#include "kernels/cuda/prefill_rows.cuh"

#include "kernels/check.h"
#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/prefill_ops.h"

namespace refute::cuda {
namespace {

// hidden [rows, size], in place; add [rows, size] or null; expert_out [rows * k, size] with k
// weights a row, or null; norm [rows, size] or null. Block: a row, 128 threads. Thread i works on
// columns i, i + 128, ..., its lane of the norm's sum; those of a warp are blocks of 32.
__global__ void __launch_bounds__(kLanes)
    norm_kernel(float* hidden, NormInput input, const float* weight, int size, float epsilon,
                float* norm, TensorActivations quantized) {
  extern __shared__ __align__(16) float row[];
  __shared__ float lanes[kLanes];
  __shared__ float scale;
  const std::size_t at = static_cast<std::size_t>(blockIdx.x) * static_cast<std::size_t>(size);
  const int i = static_cast<int>(threadIdx.x);
  const int k = input.num_experts_per_tok;
  const float* const outs = input.expert_out + at * static_cast<std::size_t>(k);
  const float* const weights =
      input.expert_weights + static_cast<std::size_t>(blockIdx.x) * static_cast<std::size_t>(k);
  // The first experts' weights stay in registers, and their rows are read together.
  constexpr int kTogether = 8;
  float first_weights[kTogether] = {};
#pragma unroll
  for (int r = 0; r < kTogether; ++r) {
    if (r < k) first_weights[r] = weights[r];
  }
  float sum = 0.0f;
#pragma unroll 4
  for (int c = i; c < size; c += kLanes) {
    float x = hidden[at + c];
    if (input.add != nullptr) x = __fadd_rn(x, input.add[at + c]);
    if (input.expert_out != nullptr) {
      const auto out = [&](int r) {
        return outs[static_cast<std::size_t>(r) * static_cast<std::size_t>(size) + c];
      };
      float first_outs[kTogether] = {};
#pragma unroll
      for (int r = 0; r < kTogether; ++r) {
        if (r < k) first_outs[r] = out(r);
      }
      float combined = 0.0f;
#pragma unroll
      for (int r = 0; r < kTogether; ++r) {
        if (r < k) combined = __fmaf_rn(first_weights[r], first_outs[r], combined);
      }
      for (int r = kTogether; r < k; ++r) combined = __fmaf_rn(weights[r], out(r), combined);
      x = __fadd_rn(x, combined);
    }
    if (input.add != nullptr || input.expert_out != nullptr) hidden[at + c] = x;
    row[c] = x;
    sum = __fmaf_rn(x, x, sum);
  }
  lanes[i] = sum;
  __syncthreads();
  if (i < kWarp) {
    const float total = halving_tree(lanes);
    if (i == 0) scale = rms_scale(total, size, epsilon);
  }
  __syncthreads();
#pragma unroll 2
  for (int c = 4 * i; c < size; c += 4 * kLanes) {  // Whole warps.
    const float4 x = *reinterpret_cast<const float4*>(row + c);
    const float4 w = *reinterpret_cast<const float4*>(weight + c);
    const float y[4] = {
        __fmul_rn(__fmul_rn(x.x, scale), w.x), __fmul_rn(__fmul_rn(x.y, scale), w.y),
        __fmul_rn(__fmul_rn(x.z, scale), w.z), __fmul_rn(__fmul_rn(x.w, scale), w.w)};
    if (norm != nullptr) *reinterpret_cast<float4*>(norm + at + c) = {y[0], y[1], y[2], y[3]};
    quantize_tensor_quad(y, i % kWarp, static_cast<int>(blockIdx.x), c / 32, quantized);
  }
}

// x [rows, columns]; a warp a block of 32; grid.y: rows.
__global__ void quantize_kernel(const float* x, int columns, TensorActivations quantized) {
  const int c = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (c / kWarp * kWarp >= static_cast<int>(quantized.stride)) return;
  const std::size_t row = blockIdx.y;
  const float value = c < columns ? x[row * static_cast<std::size_t>(columns) + c] : 0.0f;
  quantize_tensor_block(value, c % kWarp, static_cast<int>(row), c / kWarp, quantized);
}

constexpr int kHeadDim = 128;
constexpr int kHeadWarps = 8;

// A warp a head of a token: of q, then of k, then of v. q in place, k and v to the cache.
__global__ void __launch_bounds__(kHeadWarps* kWarp)
    heads_kernel(CallHeads heads, int num_tokens, int num_heads, int num_kv_heads, float epsilon,
                 DecodeState* state) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int per_token = num_heads + 2 * num_kv_heads;
  const int item =
      static_cast<int>(blockIdx.x) * kHeadWarps + static_cast<int>(threadIdx.x) / kWarp;
  const int t = item / per_token;
  if (t >= num_tokens) return;
  int head = item % per_token;
  const float* from = heads.q;
  const float* weight = heads.q_norm;
  std::uint16_t* cache = nullptr;
  int of = num_heads;
  if (head >= num_heads) {
    head -= num_heads;
    of = num_kv_heads;
    from = heads.k;
    weight = heads.k_norm;
    cache = heads.k_cache;
    if (head >= num_kv_heads) {
      head -= num_kv_heads;
      from = heads.v;
      weight = nullptr;
      cache = heads.v_cache;
    }
  }
  const auto offset = [&](std::size_t row) {
    return (row * static_cast<std::size_t>(of) + static_cast<std::size_t>(head)) * kHeadDim +
           static_cast<std::size_t>(lane);
  };
  const std::size_t at = offset(static_cast<std::size_t>(t));
  const std::size_t position = static_cast<std::size_t>(state->position) + t;
  float x[4];
#pragma unroll
  for (int j = 0; j < 4; ++j) x[j] = from[at + kWarp * j];
  if (weight != nullptr) {
    float square[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) square[j] = __fmaf_rn(x[j], x[j], 0.0f);
    const float scale =
        rms_scale(halving_tree(square[0], square[1], square[2], square[3]), kHeadDim, epsilon);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      x[j] = __fmul_rn(__fmul_rn(x[j], scale), weight[lane + kWarp * j]);
    }
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const std::size_t table =
          position * (kHeadDim / 2) + static_cast<std::size_t>(lane + kWarp * j);
      const float2 turned = rotate(x[j], x[j + 2], heads.cosines[table], heads.sines[table]);
      x[j] = turned.x;
      x[j + 2] = turned.y;
    }
  }
  if (cache == nullptr) {
#pragma unroll
    for (int j = 0; j < 4; ++j) heads.q[at + kWarp * j] = x[j];
    return;
  }
  const std::size_t to = offset(position);
#pragma unroll
  for (int j = 0; j < 4; ++j) store_cached(half_bits(x[j]), state, cache + to + kWarp * j);
}

// x [num_tokens, columns], weight [num_experts, columns], y [num_tokens, num_experts]; columns a
// multiple of 128. A warp 4 tokens x 4 experts, a block 4 x 4 warps; thread l has the lanes l,
// l + 32, l + 64, l + 96. Stages of 128 columns of 16 tokens and 16 experts, copied five ahead.
constexpr int kRouterSide = 4;
constexpr int kRouterRows = 4 * kRouterSide;
constexpr int kRouterThreads = kRouterSide * kRouterSide * kWarp;
constexpr int kRouterStages = 6;
constexpr int kRouterStage = 2 * kRouterRows * kLanes;  // floats
__global__ void __launch_bounds__(kRouterThreads)
    router_kernel(const float* x, const float* weight, int num_tokens, int num_experts, int columns,
                  float* y) {
  extern __shared__ __align__(16) float stages[];
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int first_token = static_cast<int>(blockIdx.x) * kRouterRows;
  const int first_expert = static_cast<int>(blockIdx.y) * kRouterRows;
  const int num_stages = columns / kLanes;
  // A warp copies one token's row of a stage, and one expert's.
  const float* const token = x + static_cast<std::size_t>(min(first_token + warp, num_tokens - 1)) *
                                     static_cast<std::size_t>(columns);
  const float* const expert =
      weight + static_cast<std::size_t>(min(first_expert + warp, num_experts - 1)) *
                   static_cast<std::size_t>(columns);
  const auto copy_stage = [&](int s) {
    if (s < num_stages) {
      float* const to = stages + s % kRouterStages * kRouterStage + warp * kLanes + 4 * lane;
      copy_16(to, token + s * kLanes + 4 * lane);
      copy_16(to + kRouterRows * kLanes, expert + s * kLanes + 4 * lane);
    }
    commit_copies();
  };
  for (int s = 0; s + 1 < kRouterStages; ++s) copy_stage(s);
  float sum[4][4][4] = {};  // token, expert, lane of four
  for (int s = 0; s < num_stages; ++s) {
    wait_for_copies<kRouterStages - 2>();
    __syncthreads();
    copy_stage(s + kRouterStages - 1);
    const float* const stage = stages + s % kRouterStages * kRouterStage + lane;
    const float* const tokens = stage + warp / kRouterSide * 4 * kLanes;
    const float* const experts = stage + (kRouterRows + warp % kRouterSide * 4) * kLanes;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      float values[4];
#pragma unroll
      for (int t = 0; t < 4; ++t) values[t] = tokens[t * kLanes + kWarp * j];
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const float w = experts[e * kLanes + kWarp * j];
#pragma unroll
        for (int t = 0; t < 4; ++t) sum[t][e][j] = __fmaf_rn(w, values[t], sum[t][e][j]);
      }
    }
  }
#pragma unroll
  for (int t = 0; t < 4; ++t) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const float* of = sum[t][e];
      const float result = halving_tree(of[0], of[1], of[2], of[3]);
      const int row = first_token + warp / kRouterSide * 4 + t;
      const int column = first_expert + warp % kRouterSide * 4 + e;
      if (lane == 4 * t + e && row < num_tokens && column < num_experts) {
        y[static_cast<std::size_t>(row) * static_cast<std::size_t>(num_experts) + column] = result;
      }
    }
  }
}

// The sum over a block of up to 32 warps, in all threads. Behind it stands a barrier.
__device__ inline int block_sum(int value, int* warps) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int total = __reduce_add_sync(kAllLanes, value);
  if (threadIdx.x % kWarp == 0) warps[warp] = total;
  __syncthreads();
  int sum = 0;
  for (int w = 0; w < static_cast<int>(blockDim.x) / kWarp; ++w) sum += warps[w];
  __syncthreads();
  return sum;
}

constexpr int kGroupWarps = 8;

// ids [num_slots]; block: expert blockIdx.x of gridDim.x. Every warp has a range of slots, in two
// passes: one counts, one writes.
__global__ void __launch_bounds__(kGroupWarps* kWarp)
    group_kernel(const std::int32_t* ids, int num_slots, int tile_tokens, TensorSlots out) {
  extern __shared__ int counts[];  // [num_experts]
  __shared__ int warps[kGroupWarps];
  const int num_experts = static_cast<int>(gridDim.x);
  const int expert = static_cast<int>(blockIdx.x);
  const int i = static_cast<int>(threadIdx.x);
  const int lane = i % kWarp;
  const int warp = i / kWarp;
  constexpr int kThreads = kGroupWarps * kWarp;
  for (int e = i; e < num_experts; e += kThreads) counts[e] = 0;
  __syncthreads();

  const int per_warp = (num_slots + kThreads - 1) / kThreads * kWarp;
  const int first = warp * per_warp;
  const int end = min(first + per_warp, num_slots);
  int mine = 0;
  for (int slot = first + lane; slot < end; slot += kWarp) {
    const int id = ids[slot];
    atomicAdd(counts + id, 1);
    mine += id == expert ? 1 : 0;
  }
  __syncthreads();
  const auto tiles_of = [&](int count) { return (count + tile_tokens - 1) / tile_tokens; };
  int begin = 0;
  int tile = 0;
  for (int e = i; e < expert; e += kThreads) {
    begin += counts[e];
    tile += tiles_of(counts[e]);
  }
  begin = block_sum(begin, warps);
  tile = block_sum(tile, warps);
  const int count = counts[expert];
  const int num_tiles = tiles_of(count);
  // Tiles as even as multiples of 8 allow.
  const int per_tile = num_tiles > 0 ? ((count + num_tiles - 1) / num_tiles + 7) / 8 * 8 : 0;
  for (int n = i; n < num_tiles; n += kThreads) {
    out.tiles[tile + n] = {expert, begin + n * per_tile, min(per_tile, count - n * per_tile)};
  }
  if (expert == num_experts - 1 && i == 0) *out.num_tiles = tile + num_tiles;

  const int of_warp = __reduce_add_sync(kAllLanes, mine);
  if (lane == 0) warps[warp] = of_warp;
  __syncthreads();
  for (int w = 0; w < warp; ++w) begin += warps[w];
  for (int base = first; base < end; base += kWarp) {
    const int slot = base + lane;
    const bool is_mine = slot < end && ids[slot] == expert;
    const unsigned all = __ballot_sync(kAllLanes, is_mine);
    if (is_mine) out.slots[begin + __popc(all & ((1u << lane) - 1u))] = slot;
    begin += __popc(all);
  }
}

}  // namespace

void prefill_norm(const Stream& stream, float* hidden, const NormInput& input, const float* weight,
                  std::size_t num_rows, std::size_t size, float epsilon, float* norm,
                  const TensorActivations& quantized) {
  CHECK(size % 256 == 0 && quantized.stride == size);
  Launch{dim3(static_cast<unsigned>(num_rows)), dim3(kLanes), size * sizeof(float), false, true}(
      stream, norm_kernel, hidden, input, weight, static_cast<int>(size), epsilon, norm, quantized);
}

void tensor_quantize(const Stream& stream, const float* x, std::size_t rows, std::size_t columns,
                     const TensorActivations& quantized) {
  CHECK(columns % 32 == 0 && quantized.stride == DeviceActivations::stride_for(columns));
  CHECK(rows <= 65535);
  constexpr unsigned kThreads = 256;
  const dim3 grid(blocks_for(quantized.stride, kThreads), static_cast<unsigned>(rows));
  Launch{grid, dim3(kThreads)}(stream, quantize_kernel, x, static_cast<int>(columns), quantized);
}

bool has_prefill_heads(const AttentionShape& shape) { return shape.head_dim == kHeadDim; }

void prefill_heads(const Stream& stream, const AttentionShape& shape, const CallHeads& heads,
                   std::size_t num_tokens, float epsilon, DecodeState* state) {
  CHECK(has_prefill_heads(shape));
  const std::size_t items =
      num_tokens * (shape.num_attention_heads + 2 * shape.num_key_value_heads);
  Launch{dim3(blocks_for(items, kHeadWarps)), dim3(kHeadWarps * kWarp)}(
      stream, heads_kernel, heads, static_cast<int>(num_tokens),
      static_cast<int>(shape.num_attention_heads), static_cast<int>(shape.num_key_value_heads),
      epsilon, state);
}

bool has_prefill_router(const DeviceMatrix& weight) {
  return weight.type == TensorType::kF32 && weight.columns % kLanes == 0;
}

void prefill_router(const Stream& stream, const DeviceMatrix& weight, const float* x,
                    std::size_t num_tokens, float* logits) {
  CHECK(has_prefill_router(weight));
  const dim3 grid(blocks_for(num_tokens, kRouterRows), blocks_for(weight.rows, kRouterRows));
  Launch{grid, dim3(kRouterThreads), kRouterStages * kRouterStage * sizeof(float), false, true}(
      stream, router_kernel, x, reinterpret_cast<const float*>(weight.data),
      static_cast<int>(num_tokens), static_cast<int>(weight.rows), static_cast<int>(weight.columns),
      logits);
}

void group_tensor_slots(const Stream& stream, const std::int32_t* ids, std::size_t num_slots,
                        std::size_t num_experts, const TensorSlots& slots) {
  CHECK(num_experts > 0);
  Launch{dim3(static_cast<unsigned>(num_experts)), dim3(kGroupWarps * kWarp),
         num_experts * sizeof(int)}(stream, group_kernel, ids, static_cast<int>(num_slots),
                                    static_cast<int>(tensor_tile_tokens(num_slots, num_experts)),
                                    slots);
}

}  // namespace refute::cuda
