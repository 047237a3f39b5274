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
// Block: 256 threads (qkv and gate_up 512; down a warp a chosen expert). Shared: at most
// 48 KiB. Moves: every weight once, hidden states a few times from the second-level cache; bound by
// memory. A warp takes super-block s = its own number of all its row groups, so that activations
// stay in registers; S[s] of kernels/matmul.h meet in shared memory and are added there in order.
// Numerics: bitwise equal to cpu::. Nothing is split by shape of the grid.
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
constexpr int kGateUpThreads = 512;
constexpr int kGateUpWarps = kGateUpThreads / kWarp;
constexpr int kQkvGroups = 5;
constexpr int kOutGroups = 2;
constexpr int kExpertGroups = 4;  // 32 rows: a block of activations for down_proj.
constexpr int kHeadGroups = 4;
constexpr int kRouterAhead = 16;  // Weights a thread loads before it waits.
constexpr std::size_t kMaxShared = 48 * 1024;

// A normalised and quantized row in shared memory.
struct SharedRow {
  float* x;  // [size]
  std::int8_t* q;
  ActivationMeta* meta;

  __device__ SharedRow(std::uint8_t* at, int size)
      : x(reinterpret_cast<float*>(at)),
        q(reinterpret_cast<std::int8_t*>(at + 4 * size)),
        meta(reinterpret_cast<ActivationMeta*>(at + 5 * size)) {}
  __host__ __device__ static std::size_t bytes(std::size_t size) { return 5 * size + size / 4; }
};

// The gains of a norm that this thread needs, loaded before it waits, for rows of 2048: its j-th
// element is thread + threads * j. Other rows load theirs in time.
constexpr int kGainsRow = 2048;
template <int kBlock>
struct Gains {
  static constexpr int kCount = kGainsRow / kBlock;
  float g[kCount];

  __device__ Gains(const float* weight, int size) {
#pragma unroll
    for (int j = 0; j < kCount; ++j) {
      const int c = static_cast<int>(threadIdx.x) + kBlock * j;
      g[j] = c < size ? weight[c] : 0.0f;
    }
  }
};

// row = norm of hidden [size], and its quantization. size: a multiple of 256. Barriers inside and
// behind.
template <int kBlock>
__device__ inline void normalise(const float* hidden, const float* weight,
                                 const Gains<kBlock>& gains, int size, float epsilon,
                                 const SharedRow& row) {
  __shared__ float lanes[kLanes];
  const int i = static_cast<int>(threadIdx.x);
  const int warp = i / kWarp;
  constexpr int kCount = Gains<kBlock>::kCount;
  if (size == kGainsRow) {
    float x[kCount];
#pragma unroll
    for (int j = 0; j < kCount; ++j) x[j] = hidden[i + kBlock * j];
#pragma unroll
    for (int j = 0; j < kCount; ++j) row.x[i + kBlock * j] = x[j];
    __syncthreads();
    if (i < kLanes) {
      float squares[kGainsRow / kLanes];
#pragma unroll
      for (int j = 0; j < kGainsRow / kLanes; ++j) squares[j] = row.x[i + kLanes * j];
      float sum = 0.0f;
#pragma unroll
      for (int j = 0; j < kGainsRow / kLanes; ++j) sum = __fmaf_rn(squares[j], squares[j], sum);
      lanes[i] = sum;
    }
    __syncthreads();
    const float scale = rms_scale(halving_tree(lanes), size, epsilon);
#pragma unroll
    for (int j = 0; j < kCount; ++j) {
      x[j] = __fmul_rn(__fmul_rn(x[j], scale), gains.g[j]);
      const int b = warp + kBlock / kWarp * j;
      quantize_block(x[j], row.q + 32 * b, row.meta + b);
    }
#pragma unroll
    for (int j = 0; j < kCount; ++j) row.x[i + kBlock * j] = x[j];
    __syncthreads();
    return;
  }
  for (int c = i; c < size; c += kBlock) row.x[c] = hidden[c];
  __syncthreads();
  if (i < kLanes) lanes[i] = square_chain(row.x, i, size);
  __syncthreads();
  const float scale = rms_scale(halving_tree(lanes), size, epsilon);
  for (int b = warp; b < size / 32; b += kBlock / kWarp) {
    const int c = 32 * b + i % kWarp;
    const float y = __fmul_rn(__fmul_rn(row.x[c], scale), weight[c]);
    row.x[c] = y;
    quantize_block(y, row.q + 32 * b, row.meta + b);
  }
  __syncthreads();
}

// Row groups of one matrix, stored as tiles one after the other.
struct Groups {
  const std::uint8_t* tiles;  // Of the first group.
  int count;
  int super_blocks;
};

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

// Calls body.operator()<type>().
template <typename Body>
__device__ inline void with_type(TensorType type, const Body& body) {
  switch (type) {
    case TensorType::kQ4_K:
      return body.template operator()<TensorType::kQ4_K>();
    case TensorType::kQ6_K:
      return body.template operator()<TensorType::kQ6_K>();
    case TensorType::kQ5_K:
      return body.template operator()<TensorType::kQ5_K>();
    default:
      return body.template operator()<TensorType::kQ8_0>();
  }
}

struct TypedMatrix {
  MatrixArgument w;
  TensorType type = TensorType::kF32;

  TypedMatrix() = default;
  explicit TypedMatrix(const DeviceMatrix& matrix) : w(matrix), type(matrix.type) {}

  // kGroups row groups from `first` on; `matrix` points at the expert's first byte.
  __device__ Groups groups(const std::uint8_t* matrix, int first, int most) const {
    return {matrix + static_cast<std::size_t>(first) * 8 * w.row_bytes,
            min(most, w.rows / 8 - first), w.super_blocks()};
  }
};

struct QkvArguments {
  TypedMatrix matrix[3];
  float* y[3] = {};
  int first_block[3] = {};
};

// hidden, weight [size]; y[i] [matrix[i].rows]
__global__ void __launch_bounds__(kQkvThreads, 1)
    qkv_kernel(QkvArguments a, const float* hidden, const float* weight, int size, float epsilon) {
  const int block = static_cast<int>(blockIdx.x);
  const int which = block >= a.first_block[2] ? 2 : block >= a.first_block[1] ? 1 : 0;
  const TypedMatrix& matrix = a.matrix[which];
  const int first = (block - a.first_block[which]) * kQkvGroups;
  const Groups groups = matrix.groups(matrix.w.data, first, kQkvGroups);
  const SharedRow row(dynamic_shared(), size);
  float* const sums = reinterpret_cast<float*>(dynamic_shared() + SharedRow::bytes(size));
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const Gains<kQkvThreads> gains(weight, size);
  // Half of the warps for the first groups, half for the others.
  constexpr int kHalf = (kQkvGroups + 1) / 2;
  constexpr int kHalfWarps = kQkvThreads / kWarp / 2;
  const int skipped = warp < kHalfWarps ? 0 : kHalf;
  const Groups mine{groups.tiles + static_cast<std::size_t>(skipped) * 8 * matrix.w.row_bytes,
                    min(kHalf, groups.count - skipped), groups.super_blocks};
  float* const my_sums = sums + skipped * 8 * groups.super_blocks;
  with_type(matrix.type, [&]<TensorType kType>() {
    multiply<kType, kHalf, 1>(mine, warp % kHalfWarps, kHalfWarps, row.q, row.meta, my_sums, [&] {
      start_next();
      wait_for_previous();
      normalise(hidden, weight, gains, size, epsilon, row);
    });
  });
  __syncthreads();
  const int i = static_cast<int>(threadIdx.x);
  if (i < 8 * groups.count) {
    a.y[which][8 * first + i] = ordered_sum(sums, i / 8, i % 8, groups.super_blocks);
  }
}

// hidden [w.rows] += w x
__global__ void __launch_bounds__(kThreads, 2)
    o_proj_kernel(TypedMatrix matrix, const std::int8_t* q, const ActivationMeta* meta,
                  float* hidden) {
  const int first = static_cast<int>(blockIdx.x) * kOutGroups;
  const Groups groups = matrix.groups(matrix.w.data, first, kOutGroups);
  float* const sums = reinterpret_cast<float*>(dynamic_shared());
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int i = static_cast<int>(threadIdx.x);
  float* const at = hidden + 8 * first + i;
  float residual = 0.0f;
  with_type(matrix.type, [&]<TensorType kType>() {
    multiply<kType, kOutGroups, 2>(groups, warp, kWarps, q, meta, sums, [&] {
      start_next();
      wait_for_previous();
      if (i < 8 * groups.count) residual = *at;
    });
  });
  __syncthreads();
  if (i < 8 * groups.count) {
    *at = __fadd_rn(residual, ordered_sum(sums, i / 8, i % 8, groups.super_blocks));
  }
}

// logits [w.rows]; thread i of each half of the block is lane i of kernels/matmul.h. Block 0 also
// stores the quantized row.
template <typename Stored>
__global__ void __launch_bounds__(kThreads)
    router_kernel(MatrixArgument w, const float* hidden, const float* weight, float epsilon,
                  float* logits, std::int8_t* q, ActivationMeta* meta) {
  __shared__ float lanes[kThreads];
  const int i = static_cast<int>(threadIdx.x) % kLanes;
  const int half = static_cast<int>(threadIdx.x) / kLanes;
  const int row = min(static_cast<int>(blockIdx.x) * 2 + half, w.rows - 1);
  const std::uint8_t* from = w.data + static_cast<std::size_t>(row) * w.row_bytes;
  float ahead[kRouterAhead];
#pragma unroll
  for (int j = 0; j < kRouterAhead; ++j) {
    const int c = i + kLanes * j;
    ahead[j] = c < w.columns ? Stored::load(from, c) : 0.0f;
  }
  const Gains<kThreads> gains(weight, w.columns);
  start_next();
  wait_for_previous();
  const SharedRow x(dynamic_shared(), w.columns);
  normalise(hidden, weight, gains, w.columns, epsilon, x);
  float sum = 0.0f;
#pragma unroll
  for (int j = 0; j < kRouterAhead; ++j) {
    const int c = i + kLanes * j;
    if (c < w.columns) sum = __fmaf_rn(ahead[j], x.x[c], sum);
  }
  for (int c = i + kLanes * kRouterAhead; c < w.columns; c += kLanes) {
    sum = __fmaf_rn(Stored::load(from, c), x.x[c], sum);
  }
  lanes[threadIdx.x] = sum;
  __syncthreads();
  if (i < kWarp) {
    const float logit = halving_tree(lanes + kLanes * half);
    if (i == 0) logits[row] = logit;
  }
  if (blockIdx.x != 0) return;
  for (int c = static_cast<int>(threadIdx.x); c < w.columns / 4; c += kThreads) {
    reinterpret_cast<int*>(q)[c] = reinterpret_cast<const int*>(x.q)[c];
  }
  for (int b = static_cast<int>(threadIdx.x); b < w.columns / 32; b += kThreads) {
    meta[b] = x.meta[b];
  }
}

struct GateUpArguments {
  TypedMatrix gate;
  TypedMatrix up;
  const float* logits;  // [num_experts]
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

// As multiply, for one super-block and kGroups groups that all exist: fewer tiles on their way at a
// time, fewer registers.
template <TensorType kType, int kGroups, int kAhead>
__device__ inline void multiply_in_turn(const Groups& groups, int s, const ActivationLane& x,
                                        float* sums) {
  constexpr std::size_t kTileBytes = 8 * Fragment<kType>::kBlockBytes;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  Fragment<kType> fragments[kGroups];
  const auto load = [&](int g) {
    const auto tile = static_cast<std::size_t>(g * groups.super_blocks + s);
    fragments[g].load(groups.tiles + tile * kTileBytes, lane);
  };
#pragma unroll
  for (int g = 0; g < kAhead; ++g) load(g);
#pragma unroll
  for (int g = 0; g < kGroups; ++g) {
    if (g + kAhead < kGroups) load(g + kAhead);
    const float sum = super_block_sum(Unpacked<kType>(fragments[g], lane % 4).dot(x));
    if (lane % 4 == 0) sums[(g * groups.super_blocks + s) * 8 + lane / 4] = sum;
  }
}

// grid: (blocks of 32 rows, ranks); half of the warps for gate_proj, half for up_proj. Two blocks
// fit a multiprocessor, so that all blocks run at once.
__global__ void __launch_bounds__(kGateUpThreads, 2) gate_up_kernel(GateUpArguments a) {
  __shared__ int chosen;
  __shared__ alignas(16) unsigned bits[128];
  start_next();
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int rank = static_cast<int>(blockIdx.y);
  const int super_blocks = a.gate.w.super_blocks();
  float* const gate_sums = reinterpret_cast<float*>(dynamic_shared());
  float* const up_sums = gate_sums + kExpertGroups * 8 * super_blocks;

  wait_for_previous();
  if (a.num_experts <= 128) {
    find_rank(a.logits, a.num_experts, rank, bits, [&](int id) { chosen = id; });
  } else if (warp == 0) {
    top_k(a.logits, a.num_experts, rank + 1, [&](int r, int id) {
      // Past the end only when logits are not finite, which route_token reports.
      if (r == rank) chosen = min(id, a.num_experts - 1);
    });
  }
  __syncthreads();
  const auto expert = static_cast<std::size_t>(chosen);
  const int first = static_cast<int>(blockIdx.x) * kExpertGroups;
  const bool is_up = warp >= kGateUpWarps / 2;
  const TypedMatrix& matrix = is_up ? a.up : a.gate;
  const Groups groups =
      matrix.groups(matrix.w.data + expert * matrix.w.expert_stride, first, kExpertGroups);
  for (int s = warp % (kGateUpWarps / 2); s < super_blocks; s += kGateUpWarps / 2) {
    ActivationLane x;
    x.load(a.q, a.meta, s, lane % 4);
    with_type(matrix.type, [&]<TensorType kType>() {
      multiply_in_turn<kType, kExpertGroups, 1>(groups, s, x, is_up ? up_sums : gate_sums);
    });
  }
  if (threadIdx.x == 0) {
    prefetch_part(a.down + expert * a.down_stride, a.down_stride, blockIdx.x, gridDim.x);
  }
  if (blockIdx.x == 0 && rank == 0 && warp == kGateUpWarps - 1) {
    route_token(a.logits, a.num_experts, a.num_experts_per_tok, a.norm_topk_prob, nullptr,
                a.layer_key, a.ids, a.weights, &a.state->router_error);
  }
  __syncthreads();
  if (warp != 0) return;
  const float gate = ordered_sum(gate_sums, lane / 8, lane % 8, super_blocks);
  const float up = ordered_sum(up_sums, lane / 8, lane % 8, super_blocks);
  const std::size_t at = static_cast<std::size_t>(rank) * a.inner_stride + 32 * blockIdx.x;
  quantize_block(swiglu_device(gate, up), a.inner_q + at, a.inner_meta + at / 32);
}

// hidden [w.rows] += sum over ranks of weights[rank] * (expert ids[rank] of w) inner[rank]; a warp
// a rank.
__global__ void down_kernel(TypedMatrix matrix, const std::int32_t* ids, const float* weights,
                            const std::int8_t* q, const ActivationMeta* meta, std::size_t stride,
                            float* hidden) {
  start_next();
  const int rank = static_cast<int>(threadIdx.x) / kWarp;
  const int ranks = static_cast<int>(blockDim.x) / kWarp;
  const int first = static_cast<int>(blockIdx.x);
  const int super_blocks = matrix.w.super_blocks();
  float* const sums = reinterpret_cast<float*>(dynamic_shared());  // [rank][s][8]
  float* const outs = sums + ranks * super_blocks * 8;             // [rank][8]
  const int i = static_cast<int>(threadIdx.x);
  float* const y = hidden + 8 * first + i;
  wait_for_previous();
  const std::size_t expert = static_cast<std::size_t>(ids[rank]);
  const float weight = weights[rank];
  const float residual = i < 8 ? *y : 0.0f;
  const Groups groups = matrix.groups(matrix.w.data + expert * matrix.w.expert_stride, first, 1);
  const std::size_t at = static_cast<std::size_t>(rank) * stride;
  with_type(matrix.type, [&]<TensorType kType>() {
    multiply<kType, 1, 3>(groups, 0, 1, q + at, meta + at / 32, sums + rank * super_blocks * 8,
                          [] {});
  });
  float* const shares = outs + 8 * ranks;  // [rank]
  if (i % kWarp == 0) shares[rank] = weight;
  __syncthreads();
  if (i < 8 * ranks) outs[i] = ordered_sum(sums, i / 8, i % 8, super_blocks);
  __syncthreads();
  if (i < 8) {
    float sum = 0.0f;
#pragma unroll 8
    for (int r = 0; r < ranks; ++r) sum = __fmaf_rn(shares[r], outs[8 * r + i], sum);
    *y = __fadd_rn(residual, sum);
  }
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
  const std::size_t shared =
      SharedRow::bytes(shape.hidden_size) + sums_bytes(kQkvGroups, shape.hidden_size);
  Launch{dim3(static_cast<unsigned>(blocks)), dim3(kQkvThreads), shared, true}(
      stream, qkv_kernel, a, buffers.hidden, layer.input_layernorm,
      static_cast<int>(shape.hidden_size), shape.rms_norm_eps);
}

void o_proj(const Stream& stream, const DecodeShape& shape, const DeviceLayer& layer,
            const DecodeBuffers& buffers) {
  Launch{dim3(blocks_for(shape.hidden_size, 8 * kOutGroups)), dim3(kThreads),
         sums_bytes(kOutGroups, shape.heads.query_size()),
         true}(stream, o_proj_kernel, TypedMatrix(layer.o_proj), buffers.heads.q,
               buffers.heads.meta, buffers.hidden);
}

void router(const Stream& stream, const DecodeShape& shape, const DeviceLayer& layer,
            const DecodeBuffers& buffers) {
  const MatrixArgument w(layer.router);
  const Launch launch{dim3(blocks_for(layer.router.rows, 2)), dim3(kThreads),
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
  a.gate = TypedMatrix(layer.gate_proj);
  a.up = TypedMatrix(layer.up_proj);
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
  const dim3 grid(static_cast<unsigned>(shape.moe_intermediate_size / 32), ranks);
  Launch{grid, dim3(kGateUpThreads), 2 * sums_bytes(kExpertGroups, shape.hidden_size), true}(
      stream, gate_up_kernel, a);
}

void down(const Stream& stream, const DecodeShape& shape, const DeviceLayer& layer,
          const DecodeBuffers& buffers) {
  const auto ranks = static_cast<unsigned>(shape.num_experts_per_tok);
  const std::size_t shared =
      ranks * (sums_bytes(1, shape.moe_intermediate_size) + 9 * sizeof(float));
  Launch{dim3(static_cast<unsigned>(shape.hidden_size / 8)), dim3(ranks * kWarp), shared, true}(
      stream, down_kernel, TypedMatrix(layer.down_proj), buffers.ids, buffers.weights,
      buffers.inner.q, buffers.inner.meta, buffers.inner.stride, buffers.hidden);
}

}  // namespace

bool can_fuse(const DecodeShape& shape, const DeviceLayer& layer) {
  for (const DeviceMatrix* matrix : {&layer.q_proj, &layer.k_proj, &layer.v_proj, &layer.o_proj,
                                     &layer.gate_proj, &layer.up_proj, &layer.down_proj}) {
    if (!is_tiled(*matrix)) return false;
  }
  return !layer.router.is_quantized() && shape.heads.head_dim % 32 == 0 &&
         shape.heads.head_dim <= kMaxHeadDim && shape.num_experts_per_tok <= 16 &&
         SharedRow::bytes(shape.hidden_size) + sums_bytes(kQkvGroups, shape.hidden_size) <=
             kMaxShared &&
         sums_bytes(kOutGroups, shape.heads.query_size()) <= kMaxShared;
}

bool can_fuse_lm_head(const DecodeShape& shape, const DeviceMatrix& lm_head) {
  return is_tiled(lm_head) &&
         SharedRow::bytes(shape.hidden_size) + 2 * sums_bytes(kHeadGroups, shape.hidden_size) <=
             kMaxShared;
}

void decode_layer(const Stream& stream, const DecodeShape& shape, const DeviceLayer& layer,
                  const LayerCache& cache, std::size_t layer_index, const DecodeBuffers& buffers,
                  unsigned parts) {
  CHECK(can_fuse(shape, layer));
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
