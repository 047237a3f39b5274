// One decoded token, six kernels a layer and one for the logits. Contracts: kernels/*.h; the plain
// ops of matmul.cu, attention.cu, route.cu and elementwise.cu check these bit for bit.
//
//   qkv        norm, quantization, q_proj, k_proj, v_proj      5 row groups a block
//   attention  decode_attention.cu
//   o_proj     and the residual                                 2 row groups a block
//   router     norm, quantization, router logits                2 rows a block
//   gate_up    top-k, gate, up, SwiGLU, quantization            32 rows of one expert a block
//   down       all chosen experts, weighted sum, residual       1 row group a block
//   lm_head    norm, quantization, logits                       4 row groups at a time
//
// Block: 256 threads (qkv and gate_up 512; down a warp a chosen expert). Shared: the weights of a
// block but for down's and lm_head's, 17 to 76 KiB for hidden_size 2048. Moves: every weight once,
// hidden states a few times from the second-level cache; bound by memory. A warp takes super-block
// s = its own number of all its row groups, so that activations stay in registers; S[s] of
// kernels/matmul.h meet in shared memory and are added there in order. Numerics: bitwise equal to
// cpu::. Nothing is split by shape of the grid.
#include <algorithm>

#include "kernels/check.h"
#include "kernels/cuda/decode_ops.h"
#include "kernels/cuda/decode_parts.cuh"
#include "kernels/cuda/fragment.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/route.cuh"

namespace refute::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
constexpr int kQkvThreads = 512;
constexpr int kOutThreads = 512;
constexpr int kGateUpThreads = 512;
constexpr int kGateUpWarps = kGateUpThreads / kWarp;
constexpr int kQkvGroups = 5;
constexpr int kOutGroups = 2;
constexpr int kExpertGroups = 4;  // 32 rows: a block of activations for down_proj.
constexpr int kHeadGroups = 4;
constexpr int kMaxRanks = 16;
constexpr int kRouterAhead = 16;  // Weights a thread loads before it waits.
constexpr std::size_t kMaxShared = 48 * 1024;

// Runs body(true), a rehearsal, then body(false) once the kernels in front have finished. What runs
// once a launch runs from cold instruction caches, which takes most of its time; a rehearsal warms
// them while there is nothing else to do. It may read weights and write nothing but shared memory.
template <typename Body>
__device__ inline void rehearse_and_run(const Body& body) {
  int passes;
  asm volatile("mov.u32 %0, 2;" : "=r"(passes));  // So that there is one copy of the code.
#pragma unroll 1
  for (int pass = 0; pass < passes; ++pass) {
    if (pass == 1) wait_for_previous();
    body(pass == 0);
  }
}

// S[(g * super_blocks + s) * 8 + r] of kGroups groups at most, for the products with one row of
// activations. The first kRounds tiles of every warp and group are on their way before
// `prologue` runs, after which q and meta are read.
template <TensorType kType, int kGroups, int kRounds, typename Prologue>
__device__ inline void multiply(const Groups& groups, int warp, int warps, const std::int8_t* q,
                                const ActivationMeta* meta, float* sums, const Prologue& prologue) {
  constexpr std::size_t kTileBytes = 8 * Fragment<kType>::kBlockBytes;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int p = lane % 4;
  Fragment<kType> fragments[kRounds][kGroups];
  const auto load = [&](int first) {
#pragma unroll
    for (int round = 0; round < kRounds; ++round) {
      const int s = first + round * warps;
#pragma unroll
      for (int g = 0; g < kGroups; ++g) {
        if (s < groups.super_blocks && g < groups.count) {
          const auto tile = static_cast<std::size_t>(g * groups.super_blocks + s);
          fragments[round][g].load(groups.tiles + tile * kTileBytes, lane);
        }
      }
    }
  };
  load(warp);
  prologue();
  for (int first = warp; first < groups.super_blocks; first += kRounds * warps) {
    if (first != warp) load(first);
#pragma unroll
    for (int round = 0; round < kRounds; ++round) {
      const int s = first + round * warps;
      if (s >= groups.super_blocks) continue;
      ActivationLane x;
      x.load(q, meta, s, p);
#pragma unroll
      for (int g = 0; g < kGroups; ++g) {
        if (g >= groups.count) continue;
        const float sum = super_block_sum(Unpacked<kType>(fragments[round][g], p).dot(x));
        if (p == 0) sums[(g * groups.super_blocks + s) * 8 + lane / 4] = sum;
      }
    }
  }
}

struct QkvArguments {
  TypedMatrix matrix[3];
  float* y[3] = {};
  int first_block[3] = {};
};

// hidden, weight [size]; y[i] [matrix[i].rows]
__global__ void __launch_bounds__(kQkvThreads, 2)
    qkv_kernel(QkvArguments a, const float* hidden, const float* weight, int size, float epsilon) {
  __shared__ std::uint64_t barriers[kQkvGroups];
  start_next();
  const int block = static_cast<int>(blockIdx.x);
  const int which = block >= a.first_block[2] ? 2 : block >= a.first_block[1] ? 1 : 0;
  const TypedMatrix& matrix = a.matrix[which];
  const int first = (block - a.first_block[which]) * kQkvGroups;
  const SharedRow row(dynamic_shared(), size);
  const int super_blocks = matrix.w.super_blocks();
  float* const sums = reinterpret_cast<float*>(dynamic_shared() + SharedRow::bytes(size));
  const StagedGroups<kQkvGroups> staged(
      matrix.groups(matrix.w.data, first, kQkvGroups), matrix.w.row_bytes,
      reinterpret_cast<std::uint8_t*>(sums + kQkvGroups * 8 * super_blocks));
  const Staging<kQkvGroups> staging(barriers);
  staged.start(staging, 0);
  const int i = static_cast<int>(threadIdx.x);
  const int warp = i / kWarp;
  const Gains<kQkvThreads> gains(weight, size);
  // Half of the warps for the first groups, half for the others.
  constexpr int kHalf = (kQkvGroups + 1) / 2;
  constexpr int kHalfWarps = kQkvThreads / kWarp / 2;
  const int begin = warp < kHalfWarps ? 0 : kHalf;
  rehearse_and_run([&](bool rehearsal) {
    normalise(rehearsal ? weight : hidden, weight, gains, size, epsilon, row);
    staging.settle();
    with_type(matrix.type, [&]<TensorType kType>() {
      multiply_staged<kType>(staged, staging, 0, begin, begin + kHalf, warp % kHalfWarps,
                             kHalfWarps, rehearsal, row.q, row.meta, sums);
    });
    __syncthreads();
    float* const y = rehearsal ? row.x : a.y[which] + 8 * first;
    if (i < 8 * staged.groups.count) y[i] = ordered_sum(sums, i / 8, i % 8, super_blocks);
  });
}

// hidden [w.rows] += w x
__global__ void __launch_bounds__(kOutThreads)
    o_proj_kernel(TypedMatrix matrix, const std::int8_t* q, const ActivationMeta* meta,
                  float* hidden) {
  __shared__ std::uint64_t barriers[kOutGroups];
  __shared__ float rehearsed[8 * kOutGroups];
  start_next();
  const int first = static_cast<int>(blockIdx.x) * kOutGroups;
  const int super_blocks = matrix.w.super_blocks();
  float* const sums = reinterpret_cast<float*>(dynamic_shared());
  const StagedGroups<kOutGroups> staged(
      matrix.groups(matrix.w.data, first, kOutGroups), matrix.w.row_bytes,
      reinterpret_cast<std::uint8_t*>(sums + kOutGroups * 8 * super_blocks));
  const Staging<kOutGroups> staging(barriers);
  staged.start(staging, 0);
  const int i = static_cast<int>(threadIdx.x);
  float* const at = hidden + 8 * first + i;
  const bool has_row = i < 8 * staged.groups.count;
  rehearse_and_run([&](bool rehearsal) {
    const float residual = has_row && !rehearsal ? *at : 0.0f;
    staging.settle();
    const auto* const x = rehearsal ? reinterpret_cast<const std::int8_t*>(matrix.w.data) : q;
    const auto* const of_x =
        rehearsal ? reinterpret_cast<const ActivationMeta*>(matrix.w.data) : meta;
    with_type(matrix.type, [&]<TensorType kType>() {
      multiply_staged<kType>(staged, staging, 0, 0, kOutGroups, i / kWarp, kOutThreads / kWarp,
                             rehearsal, x, of_x, sums);
    });
    __syncthreads();
    if (has_row) {
      const float y = __fadd_rn(residual, ordered_sum(sums, i / 8, i % 8, super_blocks));
      *(rehearsal ? &rehearsed[i] : at) = y;
    }
  });
}

// logits [w.rows]; thread i of each half of the block is lane i of kernels/matmul.h. The last block
// has no rows: it stores the quantized norm.
template <typename Stored>
__global__ void __launch_bounds__(kThreads)
    router_kernel(MatrixArgument w, const float* hidden, const float* weight, float epsilon,
                  float* logits, std::int8_t* q, ActivationMeta* meta) {
  __shared__ float lanes[kThreads];
  __shared__ float rehearsed[2];
  start_next();
  const int i = static_cast<int>(threadIdx.x) % kLanes;
  const int half = static_cast<int>(threadIdx.x) / kLanes;
  const int row = min(static_cast<int>(blockIdx.x) * 2 + half, w.rows - 1);
  const std::uint8_t* const from_row = w.data + static_cast<std::size_t>(row) * w.row_bytes;
  float ahead[kRouterAhead];
#pragma unroll
  for (int j = 0; j < kRouterAhead; ++j) {
    const int c = i + kLanes * j;
    ahead[j] = c < w.columns ? Stored::load(from_row, c) : 0.0f;
  }
  const Gains<kThreads> gains(weight, w.columns);
  const SharedRow x(dynamic_shared(), w.columns);
  const bool quantizes = blockIdx.x == gridDim.x - 1;
  rehearse_and_run([&](bool rehearsal) {
    const float* const from = rehearsal ? weight : hidden;
    if (quantizes) {
      normalise(from, weight, gains, w.columns, epsilon, x);
      if (rehearsal) return;
      for (int c = static_cast<int>(threadIdx.x); c < w.columns / 4; c += kThreads) {
        reinterpret_cast<int*>(q)[c] = reinterpret_cast<const int*>(x.q)[c];
      }
      for (int b = static_cast<int>(threadIdx.x); b < w.columns / 32; b += kThreads) {
        meta[b] = x.meta[b];
      }
      return;
    }
    normalise<kThreads, false>(from, weight, gains, w.columns, epsilon, x);
    float sum = 0.0f;
#pragma unroll
    for (int j = 0; j < kRouterAhead; ++j) {
      const int c = i + kLanes * j;
      if (c < w.columns) sum = __fmaf_rn(ahead[j], x.x[c], sum);
    }
    for (int c = i + kLanes * kRouterAhead; c < w.columns; c += kLanes) {
      sum = __fmaf_rn(Stored::load(from_row, c), x.x[c], sum);
    }
    lanes[threadIdx.x] = sum;
    __syncthreads();
    if (i < kWarp) {
      const float logit = halving_tree(lanes + kLanes * half);
      if (i == 0) *(rehearsal ? &rehearsed[half] : logits + row) = logit;
    }
  });
}

struct GateUpArguments {
  TypedMatrix matrix[2];  // gate, up
  const float* logits;    // [num_experts]
  const std::int8_t* q;
  const ActivationMeta* meta;
  std::int32_t* ids;
  float* weights;
  DecodeState* state;
  std::uint64_t layer_key;
  std::int8_t* inner_q;  // [k, inner_stride]
  ActivationMeta* inner_meta;
  std::size_t inner_stride;
  const std::uint8_t* down;  // What the next kernel reads of the chosen experts.
  std::size_t down_stride;
  int num_experts;
  int num_experts_per_tok;
  bool norm_topk_prob;
};

// grid: (blocks of 32 rows, and one that stores ids and weights; ranks); half of the warps for
// gate_proj, half for up_proj. Two blocks fit a multiprocessor, so that all blocks run at once.
__global__ void __launch_bounds__(kGateUpThreads, 2) gate_up_kernel(GateUpArguments a) {
  __shared__ int chosen;
  __shared__ unsigned bits[128];
  __shared__ std::uint64_t barriers[2 * kExpertGroups];
  __shared__ std::int8_t rehearsed_q[kWarp];
  __shared__ ActivationMeta rehearsed_meta;
  start_next();
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int rank = static_cast<int>(blockIdx.y);
  const unsigned blocks = gridDim.x - 1;
  if (blockIdx.x == blocks) {
    if (rank != 0 || warp != 0) return;
    wait_for_previous();
    route_token(a.logits, a.num_experts, a.num_experts_per_tok, a.norm_topk_prob, nullptr,
                a.layer_key, a.ids, a.weights, &a.state->router_error);
    return;
  }
  const Staging<2 * kExpertGroups> staging(barriers);
  const int super_blocks = a.matrix[0].w.super_blocks();
  float* const sums = reinterpret_cast<float*>(dynamic_shared());  // [2][kExpertGroups][s][8]
  const int num_sums = kExpertGroups * 8 * super_blocks;
  auto* const tiles = reinterpret_cast<std::uint8_t*>(sums + 2 * num_sums);

  const int first = static_cast<int>(blockIdx.x) * kExpertGroups;
  const int mine = warp / (kGateUpWarps / 2);  // The matrix of this warp.
  rehearse_and_run([&](bool rehearsal) {
    const std::uint8_t* const any = a.matrix[0].w.data;
    const float* const logits = rehearsal ? reinterpret_cast<const float*>(any) : a.logits;
    if (a.num_experts <= 128) {
      find_rank(logits, a.num_experts, rank, bits, [&](int id) { chosen = id; });
    } else if (warp == 0) {
      top_k(logits, a.num_experts, rank + 1, [&](int r, int id) {
        // Past the end only when logits are not finite, which route_token reports.
        if (r == rank) chosen = min(id, a.num_experts - 1);
      });
    }
    __syncthreads();
    const auto expert = static_cast<std::size_t>(chosen);
    const auto staged = [&](int which) {
      const TypedMatrix& of = a.matrix[which];
      return StagedGroups<kExpertGroups>(
          of.groups(of.w.data + expert * of.w.expert_stride, first, kExpertGroups), of.w.row_bytes,
          tiles + (which == 0 ? 0 : StagedGroups<kExpertGroups>::bytes(a.matrix[0].w.row_bytes)));
    };
    if (!rehearsal) {
      staged(0).start(staging, 0);
      staged(1).start(staging, kExpertGroups);
    }
    staging.settle();
    if (threadIdx.x == kGateUpThreads / 2 && !rehearsal) {
      // Behind this block's own tiles, not in front of other blocks'.
      staging.wait(kExpertGroups + kExpertGroups / 2);
      prefetch_part(a.down + expert * a.down_stride, a.down_stride, blockIdx.x, blocks);
    }
    const auto* const q = rehearsal ? reinterpret_cast<const std::int8_t*>(any) : a.q;
    const auto* const meta = rehearsal ? reinterpret_cast<const ActivationMeta*>(any) : a.meta;
    with_type(a.matrix[mine].type, [&]<TensorType kType>() {
      multiply_staged<kType>(staged(mine), staging, mine * kExpertGroups, 0, kExpertGroups,
                             warp % (kGateUpWarps / 2), kGateUpWarps / 2, rehearsal, q, meta,
                             sums + mine * num_sums);
    });
    __syncthreads();
    if (warp == 0) {
      const float gate = ordered_sum(sums, lane / 8, lane % 8, super_blocks);
      const float up = ordered_sum(sums + num_sums, lane / 8, lane % 8, super_blocks);
      const std::size_t at = static_cast<std::size_t>(rank) * a.inner_stride + 32 * blockIdx.x;
      quantize_block(swiglu_device(gate, up), rehearsal ? rehearsed_q : a.inner_q + at,
                     rehearsal ? &rehearsed_meta : a.inner_meta + at / 32);
    }
  });
}

// hidden [w.rows] += sum over ranks of weights[rank] * (expert ids[rank] of w) inner[rank]; a warp
// a rank.
__global__ void __launch_bounds__(kMaxRanks* kWarp, 2)
    down_kernel(TypedMatrix matrix, const std::int32_t* ids, const float* weights,
                const std::int8_t* q, const ActivationMeta* meta, std::size_t stride,
                float* hidden) {
  __shared__ std::uint64_t barriers[kMaxRanks];
  __shared__ float outs[kMaxRanks * 8];  // [rank][8]
  __shared__ float shares[kMaxRanks];
  __shared__ float rehearsed[8];
  start_next();
  const int i = static_cast<int>(threadIdx.x);
  const int rank = i / kWarp;
  const int ranks = static_cast<int>(blockDim.x) / kWarp;
  const int first = static_cast<int>(blockIdx.x);
  const int super_blocks = matrix.w.super_blocks();
  const auto group_bytes = static_cast<unsigned>(8 * matrix.w.row_bytes);
  float* const sums = reinterpret_cast<float*>(dynamic_shared());  // [rank][s][8]
  auto* const tiles = reinterpret_cast<std::uint8_t*>(sums + ranks * super_blocks * 8);
  const Staging<kMaxRanks> staging(barriers);
  rehearse_and_run([&](bool rehearsal) {
    if (!rehearsal) {
      for (int r = 0; r < ranks; ++r) {
        const std::uint8_t* const expert =
            matrix.w.data + static_cast<std::size_t>(ids[r]) * matrix.w.expert_stride;
        staging.start(r, tiles + static_cast<std::size_t>(r) * group_bytes,
                      matrix.groups(expert, first, 1).tiles, group_bytes);
      }
    }
    if (i < ranks) shares[i] = rehearsal ? 0.0f : weights[i];
    const float residual = i < 8 && !rehearsal ? hidden[8 * first + i] : 0.0f;
    staging.settle();
    const std::size_t at = rehearsal ? 0 : static_cast<std::size_t>(rank) * stride;
    const auto* const x = rehearsal ? reinterpret_cast<const std::int8_t*>(matrix.w.data) : q;
    const auto* const of_x =
        rehearsal ? reinterpret_cast<const ActivationMeta*>(matrix.w.data) : meta;
    const StagedGroups<1> staged({nullptr, 1, super_blocks}, matrix.w.row_bytes,
                                 tiles + static_cast<std::size_t>(rank) * group_bytes);
    with_type(matrix.type, [&]<TensorType kType>() {
      multiply_staged<kType>(staged, staging, rank, 0, 1, 0, 1, rehearsal, x + at, of_x + at / 32,
                             sums + rank * super_blocks * 8);
    });
    __syncthreads();
    if (i < 8 * ranks) outs[i] = ordered_sum(sums, i / 8, i % 8, super_blocks);
    __syncthreads();
    if (i < 8) {
      float sum = 0.0f;
#pragma unroll 8
      for (int r = 0; r < ranks; ++r) sum = __fmaf_rn(shares[r], outs[8 * r + i], sum);
      *(rehearsal ? &rehearsed[i] : hidden + 8 * first + i) = __fadd_rn(residual, sum);
    }
    if (rehearsal) __syncthreads();  // Before shares are overwritten.
  });
}

// logits [w.rows]; a block takes every gridDim.x-th batch of row groups.
__global__ void __launch_bounds__(kThreads, 2)
    lm_head_kernel(TypedMatrix matrix, const float* hidden, const float* weight, float epsilon,
                   float* logits) {
  const int size = matrix.w.columns;
  const SharedRow row(dynamic_shared(), size);
  const int super_blocks = matrix.w.super_blocks();
  float* const both = reinterpret_cast<float*>(dynamic_shared() + SharedRow::bytes(size));
  const int i = static_cast<int>(threadIdx.x);
  const int warp = i / kWarp;
  const int batches = (matrix.w.rows / 8 + kHeadGroups - 1) / kHeadGroups;
  with_type(matrix.type, [&]<TensorType kType>() {
    int buffer = 0;
    for (int batch = static_cast<int>(blockIdx.x); batch < batches;
         batch += static_cast<int>(gridDim.x)) {
      const Groups groups = matrix.groups(matrix.w.data, batch * kHeadGroups, kHeadGroups);
      float* const sums = both + buffer * kHeadGroups * 8 * super_blocks;
      multiply<kType, kHeadGroups, 1>(groups, warp, kWarps, row.q, row.meta, sums, [&] {
        if (batch != static_cast<int>(blockIdx.x)) return;
        start_next();
        wait_for_previous();
        normalise(hidden, weight, Gains<kThreads>(weight, size), size, epsilon, row);
      });
      __syncthreads();
      if (i < 8 * groups.count) {
        logits[8 * kHeadGroups * batch + i] = ordered_sum(sums, i / 8, i % 8, super_blocks);
      }
      buffer = 1 - buffer;
    }
  });
}

std::size_t sums_bytes(int groups, std::size_t columns) {
  return static_cast<std::size_t>(groups) * 8 * (columns / 256) * sizeof(float);
}

bool is_tiled(const DeviceMatrix& matrix) {
  return matrix.is_quantized() && matrix.columns % 256 == 0 && matrix.tiled_rows == matrix.rows;
}

std::size_t qkv_shared(const DecodeShape& shape, const DeviceLayer& layer) {
  std::size_t row_bytes = 0;
  for (const DeviceMatrix* matrix : {&layer.q_proj, &layer.k_proj, &layer.v_proj}) {
    row_bytes = std::max(row_bytes, matrix->row_bytes);
  }
  return SharedRow::bytes(shape.hidden_size) + sums_bytes(kQkvGroups, shape.hidden_size) +
         StagedGroups<kQkvGroups>::bytes(row_bytes);
}
std::size_t o_proj_shared(const DecodeShape& shape, const DeviceLayer& layer) {
  return sums_bytes(kOutGroups, shape.heads.query_size()) +
         StagedGroups<kOutGroups>::bytes(layer.o_proj.row_bytes);
}
std::size_t gate_up_shared(const DecodeShape& shape, const DeviceLayer& layer) {
  return 2 * sums_bytes(kExpertGroups, shape.hidden_size) +
         StagedGroups<kExpertGroups>::bytes(layer.gate_proj.row_bytes) +
         StagedGroups<kExpertGroups>::bytes(layer.up_proj.row_bytes);
}

std::size_t down_shared(const DecodeShape& shape, const DeviceLayer& layer) {
  return shape.num_experts_per_tok * (sums_bytes(1, shape.moe_intermediate_size) +
                                      StagedGroups<1>::bytes(layer.down_proj.row_bytes));
}

void qkv(const Stream& stream, const DecodeShape& shape, const DeviceLayer& layer,
         const DecodeBuffers& buffers) {
  QkvArguments a;
  a.matrix[0] = TypedMatrix(layer.q_proj);
  a.matrix[1] = TypedMatrix(layer.k_proj);
  a.matrix[2] = TypedMatrix(layer.v_proj);
  a.y[0] = buffers.q;
  a.y[1] = buffers.k;
  a.y[2] = buffers.v;
  int blocks = 0;
  for (int i = 0; i < 3; ++i) {
    a.first_block[i] = blocks;
    blocks +=
        static_cast<int>(blocks_for(static_cast<std::size_t>(a.matrix[i].w.rows), 8 * kQkvGroups));
  }
  Launch{dim3(static_cast<unsigned>(blocks)), dim3(kQkvThreads), qkv_shared(shape, layer), true,
         true}(stream, qkv_kernel, a, buffers.hidden, layer.input_layernorm,
               static_cast<int>(shape.hidden_size), shape.rms_norm_eps);
}

void o_proj(const Stream& stream, const DecodeShape& shape, const DeviceLayer& layer,
            const DecodeBuffers& buffers) {
  Launch{dim3(blocks_for(shape.hidden_size, 8 * kOutGroups)), dim3(kOutThreads),
         o_proj_shared(shape, layer), true, true}(stream, o_proj_kernel, TypedMatrix(layer.o_proj),
                                                  buffers.heads.q, buffers.heads.meta,
                                                  buffers.hidden);
}

void router(const Stream& stream, const DecodeShape& shape, const DeviceLayer& layer,
            const DecodeBuffers& buffers) {
  const MatrixArgument w(layer.router);
  const Launch launch{dim3(blocks_for(layer.router.rows, 2) + 1), dim3(kThreads),
                      SharedRow::bytes(shape.hidden_size), true};
  const auto with = [&](auto kernel) {
    launch(stream, kernel, w, buffers.hidden, layer.post_attention_layernorm, shape.rms_norm_eps,
           buffers.router_logits, buffers.ffn_norm.q, buffers.ffn_norm.meta);
  };
  switch (layer.router.type) {
    case TensorType::kF32:
      return with(router_kernel<StoredF32>);
    case TensorType::kF16:
      return with(router_kernel<StoredF16>);
    case TensorType::kBF16:
      return with(router_kernel<StoredBF16>);
    default:
      CHECK(false);
  }
}

void gate_up(const Stream& stream, const DecodeShape& shape, const DeviceLayer& layer,
             std::size_t layer_index, const DecodeBuffers& buffers) {
  GateUpArguments a{};
  a.matrix[0] = TypedMatrix(layer.gate_proj);
  a.matrix[1] = TypedMatrix(layer.up_proj);
  a.logits = buffers.router_logits;
  a.q = buffers.ffn_norm.q;
  a.meta = buffers.ffn_norm.meta;
  a.ids = buffers.ids;
  a.weights = buffers.weights;
  a.state = buffers.state;
  a.layer_key = error_key(layer_index, 0, 0);
  a.inner_q = buffers.inner.q;
  a.inner_meta = buffers.inner.meta;
  a.inner_stride = buffers.inner.stride;
  a.down = layer.down_proj.data;
  a.down_stride = layer.down_proj.expert_stride;
  a.num_experts = static_cast<int>(shape.num_experts);
  a.num_experts_per_tok = static_cast<int>(shape.num_experts_per_tok);
  a.norm_topk_prob = shape.norm_topk_prob;
  const auto ranks = static_cast<unsigned>(shape.num_experts_per_tok);
  const dim3 grid(static_cast<unsigned>(shape.moe_intermediate_size / 32 + 1), ranks);
  Launch{grid, dim3(kGateUpThreads), gate_up_shared(shape, layer), true, true}(stream,
                                                                               gate_up_kernel, a);
}

void down(const Stream& stream, const DecodeShape& shape, const DeviceLayer& layer,
          const DecodeBuffers& buffers) {
  const auto ranks = static_cast<unsigned>(shape.num_experts_per_tok);
  Launch{dim3(static_cast<unsigned>(shape.hidden_size / 8)), dim3(ranks * kWarp),
         down_shared(shape, layer), true,
         true}(stream, down_kernel, TypedMatrix(layer.down_proj), buffers.ids, buffers.weights,
               buffers.inner.q, buffers.inner.meta, buffers.inner.stride, buffers.hidden);
}

}  // namespace

bool can_fuse(const Stream& stream, const DecodeShape& shape, const DeviceLayer& layer) {
  for (const DeviceMatrix* matrix : {&layer.q_proj, &layer.k_proj, &layer.v_proj, &layer.o_proj,
                                     &layer.gate_proj, &layer.up_proj, &layer.down_proj}) {
    if (!is_tiled(*matrix)) return false;
  }
  // A kernel's static shared memory is less than 4 KiB.
  const std::size_t shared =
      4096 + std::max({qkv_shared(shape, layer), o_proj_shared(shape, layer),
                       gate_up_shared(shape, layer), down_shared(shape, layer)});
  return !layer.router.is_quantized() && shape.heads.head_dim % 32 == 0 &&
         shape.num_experts_per_tok <= kMaxRanks &&
         SharedRow::bytes(shape.hidden_size) <= kMaxShared && shared <= stream.max_shared_bytes;
}

bool can_fuse_lm_head(const DecodeShape& shape, const DeviceMatrix& lm_head) {
  return is_tiled(lm_head) &&
         SharedRow::bytes(shape.hidden_size) + 2 * sums_bytes(kHeadGroups, shape.hidden_size) <=
             kMaxShared;
}

void decode_layer(const Stream& stream, const DecodeShape& shape, const DeviceLayer& layer,
                  const LayerCache& cache, std::size_t layer_index, const DecodeBuffers& buffers,
                  unsigned parts) {
  CHECK(can_fuse(stream, shape, layer));
  if (parts & kPartQkv) qkv(stream, shape, layer, buffers);
  if (parts & kPartAttention) decode_attention(stream, shape, layer, cache, buffers);
  if (parts & kPartOut) o_proj(stream, shape, layer, buffers);
  if (parts & kPartRouter) router(stream, shape, layer, buffers);
  if (parts & kPartGateUp) gate_up(stream, shape, layer, layer_index, buffers);
  if (parts & kPartDown) down(stream, shape, layer, buffers);
}

void decode_lm_head(const Stream& stream, const DecodeShape& shape, const float* norm,
                    const DeviceMatrix& lm_head, const DecodeBuffers& buffers) {
  CHECK(can_fuse_lm_head(shape, lm_head));
  const std::size_t shared =
      SharedRow::bytes(shape.hidden_size) + 2 * sums_bytes(kHeadGroups, shape.hidden_size);
  const unsigned batches = blocks_for(lm_head.rows, 8 * kHeadGroups);
  const auto resident = static_cast<unsigned>(2 * stream.num_multiprocessors);
  Launch{dim3(batches < resident ? batches : resident), dim3(kThreads), shared, true}(
      stream, lm_head_kernel, TypedMatrix(lm_head), buffers.hidden, norm, shape.rms_norm_eps,
      buffers.logits);
}

}  // namespace refute::cuda
