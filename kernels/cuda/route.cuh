// Routing of one token by one warp: shared by the plain kernel and the fused ones of decoding.
// Formula and orders: kernels/route.h.
#pragma once

#include <cuda_runtime.h>

#include "kernels/cuda/numerics.cuh"
#include "kernels/cuda/ops.h"

namespace refute::cuda {
namespace {

// Bits that order as the float does, -0 as +0.
__device__ inline unsigned ordered_bits(float x) {
  const unsigned bits = __float_as_uint(__fadd_rn(x, 0.0f));
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

// ids: the k experts of the largest logits, descending, ties to the lowest id, by one full warp.
// All logits must be finite. Thread 0 writes through emit(rank, id). kRegisters > 0: the logits of
// at most 32 * kRegisters experts stay in registers.
template <int kRegisters, typename Emit>
__device__ inline void top_k_of(const float* logits, int num_experts, int k, const Emit& emit) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  unsigned held[kRegisters > 0 ? kRegisters : 1] = {};
  if constexpr (kRegisters > 0) {
#pragma unroll
    for (int j = 0; j < kRegisters; ++j) {
      const int e = lane + kWarp * j;
      held[j] = e < num_experts ? ordered_bits(logits[e]) : 0u;  // Below every finite logit's.
    }
  }
  // What ranks behind the last choice is still to be chosen from.
  unsigned last_bits = 0xffffffffu;
  int last_id = -1;
  for (int rank = 0; rank < k; ++rank) {
    unsigned best_bits = 0;
    int best_id = num_experts;
    const auto consider = [&](int e, unsigned bits) {
      const bool left = bits < last_bits || (bits == last_bits && e > last_id);
      if (left && bits > best_bits) {
        best_bits = bits;
        best_id = e;
      }
    };
    if constexpr (kRegisters > 0) {
#pragma unroll
      for (int j = 0; j < kRegisters; ++j) consider(lane + kWarp * j, held[j]);
    } else {
      for (int e = lane; e < num_experts; e += kWarp) consider(e, ordered_bits(logits[e]));
    }
    last_bits = __reduce_max_sync(kAllLanes, best_bits);
    const unsigned id = best_bits == last_bits ? static_cast<unsigned>(best_id) : 0x7fffffffu;
    last_id = static_cast<int>(__reduce_min_sync(kAllLanes, id));
    if (lane == 0) emit(rank, last_id);
  }
}

template <typename Emit>
__device__ inline void top_k(const float* logits, int num_experts, int k, const Emit& emit) {
  if (num_experts <= 4 * kWarp) {
    top_k_of<4>(logits, num_experts, k, emit);
  } else {
    top_k_of<0>(logits, num_experts, k, emit);
  }
}

// How many of 128 experts rank before expert threadIdx.x / 4, by a whole block of 512 threads, four
// an expert; the result is in all four. bits [128]: ordered_bits of the logits, those of experts
// that don't exist below all others, in shared memory, a multiple of 16 bytes, behind a barrier.
//
// Ranks of experts that exist are all different: bits are compared as integers, of which equal ones
// rank by index. So do NaN logits, before all others: ordered_bits adds 0, which leaves one NaN of
// all, and its bits are the largest. Callers may choose by such ranks, but then report the logit
// that is not finite (first_not_finite). What an expert gets that doesn't exist means nothing.
__device__ inline int count_before(const unsigned* bits) {
  // A quarter of the others a thread, four in 16. One in front of e ranks before it when it is as
  // large, one behind it only when it is larger; those of its own 16 once more.
  const int e = static_cast<int>(threadIdx.x) / 4;
  const int quarter = static_cast<int>(threadIdx.x) % 4;
  const unsigned mine = bits[e];
  const uint4* const others = reinterpret_cast<const uint4*>(bits) + quarter;
  int before = 0;
#pragma unroll
  for (int m = 0; m < 8; ++m) {
    const uint4 its = others[4 * m];
    const unsigned most = m < e / 16 ? mine - 1u : mine;
    before += (its.x > most) + (its.y > most) + (its.z > most) + (its.w > most);
  }
  const uint4 near = others[e / 16 * 4];
  const int first = e / 16 * 16 + 4 * quarter;
  before += (near.x == mine && first < e) + (near.y == mine && first + 1 < e) +
            (near.z == mine && first + 2 < e) + (near.w == mine && first + 3 < e);
  before += __shfl_xor_sync(kAllLanes, before, 1);
  return before + __shfl_xor_sync(kAllLanes, before, 2);
}

// The expert that ranks `rank`-th, by a whole block of 512 threads, for at most 128 experts. bits
// [128] in shared memory, a multiple of 16 bytes. Barriers inside; the thread that found it calls
// emit(id).
template <typename Emit>
__device__ inline void find_rank(const float* logits, int num_experts, int rank, unsigned* bits,
                                 const Emit& emit) {
  const int i = static_cast<int>(threadIdx.x);
  if (i < 128) bits[i] = i < num_experts ? ordered_bits(logits[i]) : 0u;
  __syncthreads();
  const int before = count_before(bits);
  if (before == rank && i % 4 == 0 && i / 4 < num_experts) emit(i / 4);
}

// The expert of the first logit that is not finite, or num_experts. By one full warp.
__device__ inline int first_not_finite(const float* logits, int num_experts) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  unsigned first = static_cast<unsigned>(num_experts);
  for (int e = lane; e < num_experts; e += kWarp) {
    if (!is_finite(logits[e]) && static_cast<unsigned>(e) < first) first = static_cast<unsigned>(e);
  }
  return static_cast<int>(__reduce_min_sync(kAllLanes, first));
}

// Sum of value(i), i < count, in the 128-lane order, by one full warp.
template <typename Value>
__device__ inline float lane_sum(int count, const Value& value) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  float lanes[4] = {};
  for (int i = lane; i < count; i += kLanes) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int at = i + kWarp * j;
      if (at < count) lanes[j] = __fadd_rn(lanes[j], value(at));
    }
  }
  return halving_tree(lanes[0], lanes[1], lanes[2], lanes[3]);
}

// weights[r] for the chosen ids, by one full warp.
__device__ inline void routing_weights(const float* logits, int num_experts,
                                       const std::int32_t* ids, int k, bool norm_topk_prob,
                                       float* weights) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  float max = __int_as_float(0xff800000);
  for (int e = lane; e < num_experts; e += kWarp) max = fmaxf(max, logits[e]);
#pragma unroll
  for (int h = 16; h > 0; h /= 2) max = fmaxf(max, __shfl_xor_sync(kAllLanes, max, h));
  const auto exponential = [&](int e) { return exp32_device(__fsub_rn(logits[e], max)); };
  const float denominator = lane_sum(num_experts, exponential);
  const auto weight = [&](int r) { return __fdiv_rn(exponential(ids[r]), denominator); };
  const float sum = norm_topk_prob ? lane_sum(k, weight) : 1.0f;
  for (int r = lane; r < k; r += kWarp) {
    weights[r] = norm_topk_prob ? __fdiv_rn(weight(r), sum) : weight(r);
  }
}

// What is likelier than nothing.
__device__ inline ArgmaxPartial no_argmax() { return {__int_as_float(0xff800000), 0x7fffffff}; }
__device__ inline ArgmaxPartial argmax_of(float logit, int index) {
  return {logit, is_finite(logit) ? index : -1};
}
// The likelier of two; one that is not finite stays.
__device__ inline ArgmaxPartial better(const ArgmaxPartial& a, const ArgmaxPartial& b) {
  if (a.index < 0) return a;
  if (b.index < 0) return b;
  if (a.value != b.value) return a.value > b.value ? a : b;
  return a.index < b.index ? a : b;
}
// Of a full warp, in all its threads.
__device__ inline ArgmaxPartial warp_best(ArgmaxPartial mine) {
#pragma unroll
  for (int h = 16; h > 0; h /= 2) {
    const ArgmaxPartial other{__shfl_xor_sync(kAllLanes, mine.value, h),
                              __shfl_xor_sync(kAllLanes, mine.index, h)};
    mine = better(mine, other);
  }
  return mine;
}

// Of a block of kWarps full warps, in all its threads, of which this one is number i;
// warps [kWarps], of the block. A barrier inside.
template <int kWarps>
__device__ inline ArgmaxPartial block_best(ArgmaxPartial mine, ArgmaxPartial* warps, int i) {
  mine = warp_best(mine);
  if (i % kWarp == 0) warps[i / kWarp] = mine;
  __syncthreads();
  return warp_best(warps[i % kWarps]);
}

// All of it for one token, by one full warp; `error` as in ops.h's route.
__device__ inline void route_token(const float* logits, int num_experts, int k, bool norm_topk_prob,
                                   const std::int32_t* forced, std::uint64_t key, std::int32_t* ids,
                                   float* weights, std::uint64_t* error) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int bad = first_not_finite(logits, num_experts);
  if (bad < num_experts) {
    for (int r = lane; r < k; r += kWarp) {
      ids[r] = r;
      weights[r] = __int_as_float(0x7fffffff);
    }
    if (lane == 0) {
      atomicMin(reinterpret_cast<unsigned long long*>(error),
                static_cast<unsigned long long>(key | static_cast<unsigned>(bad)));
    }
    return;
  }
  if (forced != nullptr) {
    for (int r = lane; r < k; r += kWarp) ids[r] = forced[r];
  } else {
    top_k(logits, num_experts, k, [&](int rank, int id) { ids[rank] = id; });
  }
  __syncwarp();
  routing_weights(logits, num_experts, ids, k, norm_topk_prob, weights);
}

}  // namespace
}  // namespace refute::cuda
