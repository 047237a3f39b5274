// The products of prefill on the tensor cores, as a template over the shape of a block, so that
// shapes can be timed against each other (tests/cuda/prefill_bench.cu). prefill_matmul.cu has the
// text that belongs to it.
#pragma once

#include "kernels/check.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/prefill_rows.cuh"
#include "kernels/cuda/tensor_tile.cuh"

namespace refute::cuda {
namespace {

// Which rows of x and y a block's tokens are.
struct TensorTokens {
  const std::int32_t* slots = nullptr;  // null: the rows themselves.
  const SlotTile* tiles = nullptr;
  const std::int32_t* num_tiles = nullptr;
  int num_rows = 0;
  int per_tile = kTensorTokens;  // At most; without slots, in all but the last.
  int slots_per_row = 1;         // x row = slot / slots_per_row.
};

// The matrices of one launch: of the same type, columns and experts. Their blocks of rows follow
// each other in grid.x; or, for gate and up, a block has the same rows of both.
constexpr int kMaxMatrices = 3;
struct TensorMatrices {
  const std::uint8_t* data[kMaxMatrices] = {};
  float* y[kMaxMatrices] = {};
  int rows[kMaxMatrices] = {};
  int blocks[kMaxMatrices] = {};
  int super_blocks = 0;
  std::size_t expert_stride = 0;
  // Launches that need nothing from each other: the first lets the second start in its last blocks'
  // company, the second ends behind the first.
  bool starts_next = false;
  bool overlaps_previous = false;
};

// An index into a kernel's parameters that would otherwise move them to memory.
template <typename T>
__device__ inline T pick(const T (&of)[kMaxMatrices], int i) {
  return i == 0 ? of[0] : i == 1 ? of[1] : of[2];
}

inline std::size_t tiles_of_rows(std::size_t num_rows) {
  const std::size_t most = tensor_tile_tokens(num_rows, 1);
  return (num_rows + most - 1) / most;
}
// Rows in even tiles.
inline TensorTokens row_tokens(std::size_t num_rows) {
  TensorTokens tokens;
  tokens.num_rows = static_cast<int>(num_rows);
  const std::size_t num_tiles = tiles_of_rows(num_rows);
  if (num_tiles > 0) tokens.per_tile = static_cast<int>((num_rows + num_tiles - 1) / num_tiles);
  return tokens;
}
inline TensorTokens slot_tokens(const TensorSlots& slots, std::size_t num_slots,
                                std::size_t num_experts, std::size_t slots_per_row) {
  TensorTokens tokens;
  tokens.slots = slots.slots;
  tokens.tiles = slots.tiles;
  tokens.num_tiles = slots.num_tiles;
  tokens.num_rows = static_cast<int>(num_slots);
  tokens.slots_per_row = static_cast<int>(slots_per_row);
  tokens.per_tile = static_cast<int>(tensor_tile_tokens(num_slots, num_experts));
  return tokens;
}

// What a block knows of a token, in shared memory.
struct TokenPlace {
  const std::int8_t* q;  // Its row of x.
  const BlockScale* scales;
};

// The parts of shared memory.
template <TensorType kType, int kWarps, int kTokens, int kStages>
struct TensorShared {
  static constexpr int kScaleStride = 80;  // Bytes: 8 blocks and padding.
  static constexpr int kQ = kTokens * 256;
  static constexpr int kScales = kTokens * kScaleStride;
  static constexpr int kWeights = kWarps * 2 * TensorTile<kType>::kSharedBytes;
  static constexpr int kStage = kQ + kScales + kWeights;
  static constexpr int kScalars =
      kWarps * TensorTile<kType>::kScalars * static_cast<int>(sizeof(float));
  static constexpr int kPlaces = kTokens * static_cast<int>(sizeof(TokenPlace));
  static constexpr int kBytes = kStages * kStage + kScalars + kPlaces + kTokens * 4;
  static_assert(kQ % 128 == 0 && kScales % 64 == 0 && kWeights % 64 == 0);
};

// Super-block s of a block's tokens, asynchronously: of `count`, up to a multiple of 8.
template <int kThreads, int kTokens, int kScaleStride>
__device__ inline void copy_activations(const TokenPlace* places, int s, int count, std::uint8_t* q,
                                        std::uint8_t* scales) {
  const int num_items = 4 * ((count + 7) / 8 * 8);
#pragma unroll
  for (int first = 0; first < 4 * kTokens; first += kThreads) {
    const int i = first + static_cast<int>(threadIdx.x);
    if (i >= num_items) break;
    const int t = i / 4;
    const int p = i % 4;
    const TokenPlace place = places[t];
    const std::int8_t* from = place.q + 256 * s + 16 * p;
    // Pieces of odd tokens change places by 4, so that two tokens fill all banks.
    std::uint8_t* const to = q + 256 * t + 16 * p;
    const int swap = 64 * (t & 1);
#pragma unroll
    for (int j = 0; j < 4; ++j) copy_16(to + 64 * j + (j % 2 == 0 ? swap : -swap), from + 64 * j);
    copy_16(scales + kScaleStride * t + 16 * p, place.scales + 8 * s + 2 * p);
  }
}

// y += S[s] for 16 rows x `count` tokens. The products of a block start before the block in front
// of it is finished.
template <typename Tile, int kTokens, int kScaleStride, bool kShifted>
__device__ inline void add_super_block(const Tile& w, const std::uint8_t* q,
                                       const std::uint8_t* scales, int count, int lane,
                                       float (*y)[4]) {
  const int g = lane / 4;
  const int p = lane % 4;
  const int swap = 64 * (g & 1);  // As copy_activations puts them.
  const std::uint8_t* const q_even = q + 256 * g + 16 * p + swap;
  const std::uint8_t* const q_odd = q + 256 * g + 16 * p - swap;
  const std::uint8_t* const scale_tokens = scales + kScaleStride * 2 * p;
  const auto load_q = [&](int n, int j) {
    return *reinterpret_cast<const uint4*>((j % 2 == 0 ? q_even : q_odd) + 2048 * n + 64 * j);
  };
  // d and sum of blocks 2j and 2j + 1.
  const auto load_scales = [&](int n, int c, int j) {
    return *reinterpret_cast<const float4*>(scale_tokens + kScaleStride * (8 * n + c) + 16 * j);
  };
  constexpr int kSteps = kTokens / 8 * 8;
  const int from = start_of<kShifted>();
  int products[2][Tile::kProducts];
  uint4 of[2];  // Activations of this pair of blocks, and of the next.
  float4 x[2][2];
  of[0] = load_q(0, 0);
  w.start(0, of[0].x, of[0].y, from, products[0]);
  of[1] = load_q(0, 1);
  x[0][0] = load_scales(0, 0, 0);
  x[0][1] = load_scales(0, 1, 0);
#pragma unroll
  for (int n = 0; n < kTokens / 8; ++n) {
    if (8 * n >= count) break;
    float first[4];
    float second[4];
    float product[4];
#pragma unroll
    for (int b = 0; b < 8; ++b) {
      const int step = 8 * n + b;
      const int pair = step / 2;
      if (step + 1 < kSteps) {
        const uint4 next = of[(step + 1) / 2 % 2];
        w.start((b + 1) % 8, b % 2 == 0 ? next.z : next.x, b % 2 == 0 ? next.w : next.y, from,
                products[(step + 1) % 2]);
        if (b % 2 == 0 && step + 4 < kSteps) of[pair % 2] = load_q((step + 4) / 8, (pair + 2) % 4);
        if (b % 2 == 0 && step + 2 < kSteps) {
          x[(pair + 1) % 2][0] = load_scales((step + 2) / 8, 0, (pair + 1) % 4);
          x[(pair + 1) % 2][1] = load_scales((step + 2) / 8, 1, (pair + 1) % 4);
        }
      }
      const float4* const tokens = x[pair % 2];
      const float dx[2] = {b % 2 == 0 ? tokens[0].x : tokens[0].z,
                           b % 2 == 0 ? tokens[1].x : tokens[1].z};
      const float sums[2] = {b % 2 == 0 ? tokens[0].y : tokens[0].w,
                             b % 2 == 0 ? tokens[1].y : tokens[1].w};
      float v[4];
      w.template finish<kShifted>(b, products[step % 2], sums, v);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (b % 2 == 0) {
          product[i] = __fmul_rn(dx[i % 2], v[i]);
          continue;
        }
        const float u = __fmaf_rn(dx[i % 2], v[i], product[i]);
        if (b == 1) first[i] = u;
        if (b == 3) first[i] = __fadd_rn(first[i], u);
        if (b == 5) second[i] = u;
        if (b == 7) y[n][i] = __fadd_rn(y[n][i], __fadd_rn(first[i], __fadd_rn(second[i], u)));
      }
    }
  }
}

// y [slots or tokens, rows], or, for kSwiglu, quantized rows. Block: kWarps x 16 rows (kSwiglu: 8
// rows of each matrix a warp) and up to kTokens tokens.
template <TensorType kType, int kWarps, int kTokens, int kStages, int kMinBlocks, bool kSwiglu,
          bool kShifted>
__global__ void __launch_bounds__(kWarps* kWarp, kMinBlocks)
    tensor_matmul_kernel(TensorMatrices matrices, TensorActivations x, TensorTokens tokens,
                         TensorActivations quantized) {
  using Tile = TensorTile<kType>;
  using Shared = TensorShared<kType, kWarps, kTokens, kStages>;
  extern __shared__ __align__(128) std::uint8_t shared[];
  if (matrices.starts_next) start_next();
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  float* const scalars =
      reinterpret_cast<float*>(shared + kStages * Shared::kStage) + warp * Tile::kScalars;
  auto* const places =
      reinterpret_cast<TokenPlace*>(shared + kStages * Shared::kStage + Shared::kScalars);
  int* const y_rows = reinterpret_cast<int*>(places + kTokens);

  const int tile = static_cast<int>(blockIdx.y);
  std::size_t expert_offset = 0;
  int begin = tokens.per_tile * tile;
  int count = min(tokens.per_tile, tokens.num_rows - begin);
  if (tokens.tiles != nullptr) {
    if (tile >= *tokens.num_tiles) return;
    const SlotTile of = tokens.tiles[tile];
    expert_offset = static_cast<std::size_t>(of.expert) * matrices.expert_stride;
    begin = of.begin;
    count = of.count;
  }
#pragma unroll 1
  for (int t = static_cast<int>(threadIdx.x); t < kTokens; t += kWarps * kWarp) {
    const int at = begin + min(t, count - 1);
    const int row = tokens.slots != nullptr ? tokens.slots[at] : at;
    y_rows[t] = row;
    const int x_row = tokens.slots_per_row == 1 ? row : row / tokens.slots_per_row;
    const auto x_at = static_cast<std::size_t>(x_row) * x.stride;
    places[t] = {x.q + x_at, x.scales + x_at / 32};
  }
  __syncthreads();

  // This block's matrix and rows of it; this warp's first group of 8 rows.
  constexpr int kWarpsOfMatrix = kSwiglu ? kWarps / 2 : kWarps;
  int row_block = static_cast<int>(blockIdx.x);
  int which = kSwiglu ? warp / kWarpsOfMatrix : 0;
  if constexpr (!kSwiglu) {
    while (which + 1 < kMaxMatrices && row_block >= pick(matrices.blocks, which)) {
      row_block -= pick(matrices.blocks, which++);
    }
  }
  const int num_rows = pick(matrices.rows, which);
  const int group = (row_block * kWarpsOfMatrix + warp % kWarpsOfMatrix) * 2;
  const int last_group = num_rows / 8 - 1;
  const int super_blocks = matrices.super_blocks;
  const std::uint8_t* matrix = pick(matrices.data, which) + expert_offset;
  const auto group_bytes = static_cast<std::size_t>(super_blocks) * Tile::kBytes;
  const std::uint8_t* first_tiles =
      matrix + static_cast<std::size_t>(min(group, last_group)) * group_bytes;
  const std::uint8_t* second_tiles =
      matrix + static_cast<std::size_t>(min(group + 1, last_group)) * group_bytes;

  const auto copy_stage = [&](int s) {
    if (s >= super_blocks) return commit_copies();
    std::uint8_t* const stage = shared + s % kStages * Shared::kStage;
    copy_activations<kWarps * kWarp, kTokens, Shared::kScaleStride>(places, s, count, stage,
                                                                    stage + Shared::kQ);
    std::uint8_t* const to = stage + Shared::kQ + Shared::kScales + 2 * warp * Tile::kSharedBytes;
    const std::size_t at = static_cast<std::size_t>(s) * Tile::kBytes;
    Tile::copy(first_tiles + at, to, lane);
    Tile::copy(second_tiles + at, to + Tile::kSharedBytes, lane);
    commit_copies();
  };

  float sum[kTokens / 8][4] = {};
#pragma unroll 1
  for (int s = 0; s + 1 < kStages; ++s) copy_stage(s);
#pragma unroll 1
  for (int s = 0; s < super_blocks; ++s) {
    wait_for_copies<kStages - 2>();
    __syncthreads();
    copy_stage(s + kStages - 1);
    const std::uint8_t* const stage = shared + s % kStages * Shared::kStage;
    const std::uint8_t* const tiles =
        stage + Shared::kQ + Shared::kScales + 2 * warp * Tile::kSharedBytes;
    __syncwarp();  // All have read the last ones.
    Tile::row_scalars(tiles, 0, scalars, lane);
    Tile::row_scalars(tiles + Tile::kSharedBytes, 1, scalars, lane);
    __syncwarp();
    Tile weights;
    weights.load(tiles, scalars, lane);
    add_super_block<Tile, kTokens, Shared::kScaleStride, kShifted>(
        weights, stage, stage + Shared::kQ, count, lane, sum);
  }

  const int g = lane / 4;
  const int p = lane % 4;
  if constexpr (!kSwiglu) {
    float* const first = pick(matrices.y, which) + 8 * group + g;
#pragma unroll
    for (int n = 0; n < kTokens / 8; ++n) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const int t = 8 * n + 2 * p + c;
        if (t >= count) continue;
        float* const to =
            first + static_cast<std::size_t>(y_rows[t]) * static_cast<std::size_t>(num_rows);
        if (group <= last_group) to[0] = sum[n][c];
        if (group < last_group) to[8] = sum[n][2 + c];
      }
    }
    if (matrices.overlaps_previous) wait_for_previous();
  } else {
    // gate and up [kTokens][rows of the block], in place of the stages.
    wait_for_copies<0>();
    constexpr int kRows = 16 * kWarpsOfMatrix;
    constexpr int kStride = kRows + 4;
    static_assert(2 * kTokens * kStride * sizeof(float) <= kStages * Shared::kStage);
    __syncthreads();
    float* const values = reinterpret_cast<float*>(shared);
    float* const mine = values + (warp >= kWarpsOfMatrix ? kTokens * kStride : 0);
#pragma unroll
    for (int n = 0; n < kTokens / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int t = 8 * n + 2 * p + i % 2;
        mine[t * kStride + 16 * (warp % kWarpsOfMatrix) + 8 * (i / 2) + g] = sum[n][i];
      }
    }
    __syncthreads();
    // Eight lanes a token's block of 32 rows, of which there are whole ones.
    constexpr int kBlocks = kRows / 32;
    const int first_block = row_block * kBlocks;
#pragma unroll 1
    for (int first_item = 4 * warp; first_item < count * kBlocks; first_item += 4 * kWarps) {
      const int item = first_item + lane / 8;
      const bool exists = item < count * kBlocks;
      const int t = exists ? item / kBlocks : 0;
      const int b = item % kBlocks;
      const float* const from = values + t * kStride + 32 * b + 4 * (lane % 8);
      const float4 gate = *reinterpret_cast<const float4*>(from);
      const float4 up = *reinterpret_cast<const float4*>(from + kTokens * kStride);
      const float gates[4] = {gate.x, gate.y, gate.z, gate.w};
      const float ups[4] = {up.x, up.y, up.z, up.w};
      float inner[4];
      swiglu_quad(gates, ups, inner);
      quantize_tensor_quad(inner, lane, exists ? y_rows[t] : -1, first_block + b, quantized);
    }
  }
}

// What is multiplied: one to three weights with their results, or gate and up.
struct TensorProduct {
  const DeviceMatrix* weights[kMaxMatrices] = {};
  float* y[kMaxMatrices] = {};
  bool starts_next = false;  // As of TensorMatrices.
  bool overlaps_previous = false;
};

template <TensorType kType, int kWarps, int kTokens, int kStages, int kMinBlocks, bool kSwiglu,
          bool kShifted>
void launch_tensor_matmul(const Stream& stream, const TensorProduct& product,
                          const TensorActivations& x, std::size_t num_tiles,
                          const TensorTokens& tokens, const TensorActivations& quantized) {
  using Shared = TensorShared<kType, kWarps, kTokens, kStages>;
  constexpr unsigned kRows = (kSwiglu ? 8 : 16) * kWarps;
  const DeviceMatrix& first = *product.weights[0];
  CHECK(x.stride == DeviceActivations::stride_for(first.columns));
  CHECK(num_tiles <= 65535);
  TensorMatrices matrices;
  matrices.super_blocks = static_cast<int>(first.columns / 256);
  matrices.expert_stride = first.expert_stride;
  matrices.starts_next = product.starts_next;
  matrices.overlaps_previous = product.overlaps_previous;
  unsigned blocks = 0;
  for (int i = 0; i < kMaxMatrices && product.weights[i] != nullptr; ++i) {
    const DeviceMatrix& weight = *product.weights[i];
    CHECK(weight.type == kType && weight.columns == first.columns);
    matrices.data[i] = weight.data;
    matrices.y[i] = product.y[i];
    matrices.rows[i] = static_cast<int>(weight.rows);
    const unsigned of_matrix = blocks_for(weight.rows, kRows);
    matrices.blocks[i] = static_cast<int>(of_matrix);
    if (!kSwiglu || i == 0) blocks += of_matrix;
  }
  Launch{dim3(blocks, static_cast<unsigned>(num_tiles)), dim3(kWarps * kWarp), Shared::kBytes,
         product.overlaps_previous, true}(
      stream, tensor_matmul_kernel<kType, kWarps, kTokens, kStages, kMinBlocks, kSwiglu, kShifted>,
      matrices, x, tokens, quantized);
}

}  // namespace
}  // namespace refute::cuda
