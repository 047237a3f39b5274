// Routing, the grouping of slots by expert, and the choice of the likeliest token. Contracts:
// kernels/route.h, engine/moe_slots.h.
//
// Grid: a block a token (route), one block (grouping, the last step of argmax), 512 blocks
// (argmax). Block: a warp, 256 threads, 256 threads. Shared: at most 2 KiB. Moves: the logits once;
// slot grouping reads the ids once per expert. Bound by latency. Numerics: float32; bitwise equal
// to cpu's route<float>. Integers otherwise.
#include "kernels/check.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/route.cuh"

namespace refute::cuda {
namespace {

constexpr int kThreads = 256;

// logits [num_tokens, num_experts]; forced, ids, weights [num_tokens, k]
__global__ void route_kernel(const float* logits, int num_experts, int k, bool norm_topk_prob,
                             const std::int32_t* forced, std::uint64_t layer_key, std::int32_t* ids,
                             float* weights, std::uint64_t* error) {
  const std::size_t t = blockIdx.x;
  const std::size_t at = t * static_cast<std::size_t>(k);
  route_token(logits + t * static_cast<std::size_t>(num_experts), num_experts, k, norm_topk_prob,
              forced == nullptr ? nullptr : forced + at, layer_key | (t << 20), ids + at,
              weights + at, error);
}

// One block. An expert's slots are counted and placed by one thread, so that they stay ascending.
__global__ void group_slots_kernel(const std::int32_t* ids, int num_slots, int num_experts,
                                   DeviceSlots out) {
  for (int e = static_cast<int>(threadIdx.x); e < num_experts; e += kThreads) {
    int count = 0;
    for (int slot = 0; slot < num_slots; ++slot) count += ids[slot] == e ? 1 : 0;
    out.counts[e] = count;
  }
  __syncthreads();
  for (int e = static_cast<int>(threadIdx.x); e < num_experts; e += kThreads) {
    int begin = 0;
    int tile = 0;
    for (int before = 0; before < e; ++before) {
      begin += out.counts[before];
      tile += (out.counts[before] + kTileTokens - 1) / kTileTokens;
    }
    const int count = out.counts[e];
    for (int first = 0; first < count; first += kTileTokens) {
      out.tiles[tile++] = {e, begin + first, min(kTileTokens, count - first)};
    }
    if (e == num_experts - 1) *out.num_tiles = tile;
    if (count == 0) continue;
    for (int slot = 0; slot < num_slots; ++slot) {
      if (ids[slot] == e) out.slots[begin++] = slot;
    }
  }
}

// logits [vocab_size]; partial [gridDim.x]
__global__ void argmax_kernel(const float* logits, int vocab_size, ArgmaxPartial* partial) {
  __shared__ ArgmaxPartial warps[kThreads / kWarp];
  wait_for_previous();
  ArgmaxPartial best = no_argmax();
  for (int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); i < vocab_size;
       i += static_cast<int>(gridDim.x * blockDim.x)) {
    best = better(best, argmax_of(logits[i], i));
  }
  best = block_best<kThreads / kWarp>(best, warps, static_cast<int>(threadIdx.x));
  if (threadIdx.x == 0) partial[blockIdx.x] = best;
}

// One block.
__global__ void argmax_step_kernel(const ArgmaxPartial* partial, int count, DecodeState* state,
                                   std::int32_t* tokens) {
  __shared__ ArgmaxPartial warps[kThreads / kWarp];
  wait_for_previous();
  ArgmaxPartial best = no_argmax();
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) {
    best = better(best, partial[i]);
  }
  best = block_best<kThreads / kWarp>(best, warps, static_cast<int>(threadIdx.x));
  if (threadIdx.x != 0) return;
  if (best.index < 0 || state->router_error != kNoError || state->cache_failed != 0) {
    state->failed = 1;
    return;
  }
  tokens[state->step] = best.index;
  state->token = best.index;
  ++state->step;
  ++state->position;
}

}  // namespace

void route(const Stream& stream, const float* logits, std::size_t num_tokens,
           std::size_t num_experts, std::size_t num_experts_per_tok, bool norm_topk_prob,
           const std::int32_t* forced, std::size_t layer, std::int32_t* ids, float* weights,
           std::uint64_t* error) {
  CHECK(num_experts_per_tok > 0 && num_experts_per_tok <= num_experts);
  Launch{dim3(static_cast<unsigned>(num_tokens)), dim3(kWarp)}(
      stream, route_kernel, logits, static_cast<int>(num_experts),
      static_cast<int>(num_experts_per_tok), norm_topk_prob, forced, error_key(layer, 0, 0), ids,
      weights, error);
}

void group_slots(const Stream& stream, const std::int32_t* ids, std::size_t num_slots,
                 std::size_t num_experts, const DeviceSlots& slots) {
  CHECK(num_experts > 0);
  Launch{dim3(1), dim3(kThreads)}(stream, group_slots_kernel, ids, static_cast<int>(num_slots),
                                  static_cast<int>(num_experts), slots);
}

void argmax_step(const Stream& stream, const float* logits, std::size_t vocab_size,
                 ArgmaxPartial* partial, DecodeState* state, std::int32_t* tokens) {
  const unsigned blocks = blocks_for(vocab_size, kThreads);
  const unsigned used = blocks < kArgmaxBlocks ? blocks : static_cast<unsigned>(kArgmaxBlocks);
  Launch{dim3(used), dim3(kThreads), 0, true}(stream, argmax_kernel, logits,
                                              static_cast<int>(vocab_size), partial);
  Launch{dim3(1), dim3(kThreads), 0, true}(stream, argmax_step_kernel, partial,
                                           static_cast<int>(used), state, tokens);
}

}  // namespace refute::cuda
