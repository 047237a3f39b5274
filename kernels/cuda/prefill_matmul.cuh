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
  int per_tile = kTensorTokens;  // Without slots.
  int slots_per_row = 1;         // x row = slot / slots_per_row.
};

inline std::size_t tiles_of_rows(std::size_t num_rows) {
  return (num_rows + kTensorTokens - 1) / kTensorTokens;
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
                                std::size_t slots_per_row) {
  TensorTokens tokens;
  tokens.slots = slots.slots;
  tokens.tiles = slots.tiles;
  tokens.num_tiles = slots.num_tiles;
  tokens.num_rows = static_cast<int>(num_slots);
  tokens.slots_per_row = static_cast<int>(slots_per_row);
  return tokens;
}

// The parts of shared memory.
template <TensorType kType, int kWarps, int kTokens>
struct TensorShared {
  static constexpr int kScaleStride = 80;  // Bytes: 8 blocks and padding.
  static constexpr int kQ = kTokens * 256;
  static constexpr int kScales = kTokens * kScaleStride;
  static constexpr int kWeights = kWarps * 2 * TensorTile<kType>::kSharedBytes;
  static constexpr int kStage = kQ + kScales + kWeights;
  static constexpr int kScalars = kWarps * 16 * kScalarStride * static_cast<int>(sizeof(float));
  static constexpr int kBytes = 2 * kStage + kScalars + kTokens * 4;
  static_assert(kQ % 128 == 0 && kScales % 64 == 0 && kWeights % 64 == 0);
};

// One super-block of a block's tokens. Rows of x are `rows`, in shared memory.
template <int kThreads, int kTokens, int kScaleStride>
__device__ inline void copy_activations(const TensorActivations& x, const int* rows, int s,
                                        std::uint8_t* q, std::uint8_t* scales) {
#pragma unroll
  for (int first = 0; first < 4 * kTokens; first += kThreads) {
    const int i = first + static_cast<int>(threadIdx.x);
    if (4 * kTokens % kThreads != 0 && i >= 4 * kTokens) break;
    const int t = i / 4;
    const int p = i % 4;
    const std::size_t at =
        static_cast<std::size_t>(rows[t]) * x.stride + 256 * static_cast<std::size_t>(s);
    const std::int8_t* from = x.q + at;
    // Pieces of odd tokens change places by 4, so that two tokens fill all banks.
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      copy_16(q + 256 * t + ((64 * j + 16 * p) ^ (64 * (t & 1))), from + 64 * j + 16 * p);
    }
    copy_16(scales + kScaleStride * t + 16 * p, x.scales + at / 32 + 2 * p);
  }
}

// y += S[s] of 16 rows x 8 tokens.
template <typename Tile>
__device__ inline void add_super_block(const Tile& w, const std::uint8_t* q,
                                       const std::uint8_t* scales, int scale_stride, int lane,
                                       float* y) {
  const int g = lane / 4;
  const int p = lane % 4;
  const int swap = 64 * (g & 1);  // As copy_activations puts them.
  const std::uint8_t* const q_even = q + 256 * g + 16 * p + swap;
  const std::uint8_t* const q_odd = q + 256 * g + 16 * p - swap;
  const std::uint8_t* scale_tokens = scales + scale_stride * 2 * p;
  float first[4];
  float second[4];
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const uint4 b = *reinterpret_cast<const uint4*>((j % 2 == 0 ? q_even : q_odd) + 64 * j);
    const float4 x[2] = {
        *reinterpret_cast<const float4*>(scale_tokens + 16 * j),
        *reinterpret_cast<const float4*>(scale_tokens + scale_stride + 16 * j)};
    float u[4];
    w.pair(j, b, x, u);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (j == 0) first[i] = u[i];
      if (j == 1) first[i] = __fadd_rn(first[i], u[i]);
      if (j == 2) second[i] = u[i];
      if (j == 3) y[i] = __fadd_rn(y[i], __fadd_rn(first[i], __fadd_rn(second[i], u[i])));
    }
  }
}

// y [slots or tokens, rows], or, for kSwiglu, quantized rows. Block: kWarps x 16 rows (kSwiglu: 8
// rows of each matrix a warp) and up to kTokens tokens.
template <TensorType kType, int kWarps, int kTokens, int kMinBlocks, bool kSwiglu, bool kKeep>
__global__ void __launch_bounds__(kWarps* kWarp, kMinBlocks)
    tensor_matmul_kernel(MatrixArgument w, const std::uint8_t* up_data, TensorActivations x,
                         TensorTokens tokens, float* y, TensorActivations quantized) {
  using Tile = TensorTile<kType>;
  using Shared = TensorShared<kType, kWarps, kTokens>;
  extern __shared__ __align__(128) std::uint8_t shared[];
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  float* const scalars = reinterpret_cast<float*>(shared + 2 * Shared::kStage) +
                         warp * 16 * kScalarStride;
  int* const rows = reinterpret_cast<int*>(shared + 2 * Shared::kStage + Shared::kScalars);

  const int tile = static_cast<int>(blockIdx.y);
  std::size_t expert_offset = 0;
  int begin = tokens.per_tile * tile;
  int count = min(tokens.per_tile, tokens.num_rows - begin);
  if (tokens.tiles != nullptr) {
    if (tile >= *tokens.num_tiles) return;
    const SlotTile of = tokens.tiles[tile];
    expert_offset = static_cast<std::size_t>(of.expert) * w.expert_stride;
    begin = of.begin;
    count = of.count;
  }
  const auto slot_of = [&](int t) {
    return tokens.slots != nullptr ? tokens.slots[begin + t] : begin + t;
  };
  for (int t = static_cast<int>(threadIdx.x); t < kTokens; t += kWarps * kWarp) {
    rows[t] = slot_of(min(t, count - 1)) / tokens.slots_per_row;
  }
  __syncthreads();

  // This warp's first group of 8 rows, and its matrix.
  constexpr int kWarpsOfMatrix = kSwiglu ? kWarps / 2 : kWarps;
  const int group = (static_cast<int>(blockIdx.x) * kWarpsOfMatrix + warp % kWarpsOfMatrix) * 2;
  const int last_group = w.rows / 8 - 1;
  const int super_blocks = w.super_blocks();
  const std::uint8_t* matrix = (kSwiglu && warp >= kWarpsOfMatrix ? up_data : w.data) +
                               expert_offset;
  const auto group_bytes = static_cast<std::size_t>(super_blocks) * Tile::kBytes;
  const std::uint8_t* first_tiles =
      matrix + static_cast<std::size_t>(min(group, last_group)) * group_bytes;
  const std::uint8_t* second_tiles =
      matrix + static_cast<std::size_t>(min(group + 1, last_group)) * group_bytes;

  const auto copy_stage = [&](int s) {
    std::uint8_t* const stage = shared + (s & 1) * Shared::kStage;
    copy_activations<kWarps * kWarp, kTokens, Shared::kScaleStride>(x, rows, s, stage,
                                                                    stage + Shared::kQ);
    std::uint8_t* const to =
        stage + Shared::kQ + Shared::kScales + 2 * warp * Tile::kSharedBytes;
    const std::size_t at = static_cast<std::size_t>(s) * Tile::kBytes;
    Tile::copy(first_tiles + at, to, lane);
    Tile::copy(second_tiles + at, to + Tile::kSharedBytes, lane);
    commit_copies();
  };

  float sum[kTokens / 8][4] = {};
  copy_stage(0);
  for (int s = 0; s < super_blocks; ++s) {
    wait_for_copies<0>();
    __syncthreads();
    if (s + 1 < super_blocks) copy_stage(s + 1);
    const std::uint8_t* const stage = shared + (s & 1) * Shared::kStage;
    const std::uint8_t* const tiles =
        stage + Shared::kQ + Shared::kScales + 2 * warp * Tile::kSharedBytes;
    Tile::row_scalars(tiles, scalars, lane);
    Tile::row_scalars(tiles + Tile::kSharedBytes, scalars + 8 * kScalarStride, lane);
    __syncwarp();
    Tile weights;
    weights.template load<kKeep>(tiles, scalars, lane);
#pragma unroll
    for (int n = 0; n < kTokens / 8; ++n) {
      if (8 * n < count) {
        add_super_block(weights, stage + 8 * n * 256,
                        stage + Shared::kQ + 8 * n * Shared::kScaleStride, Shared::kScaleStride,
                        lane, sum[n]);
      }
    }
  }

  const int g = lane / 4;
  const int p = lane % 4;
  if constexpr (!kSwiglu) {
#pragma unroll
    for (int n = 0; n < kTokens / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int t = 8 * n + 2 * p + i % 2;
        if (t < count && group + i / 2 <= last_group) {
          y[static_cast<std::size_t>(slot_of(t)) * static_cast<std::size_t>(w.rows) +
            8 * (group + i / 2) + g] = sum[n][i];
        }
      }
    }
  } else {
    // gate and up [kTokens][rows of the block], in place of the stages.
    constexpr int kRows = 16 * kWarpsOfMatrix;
    constexpr int kStride = kRows + 4;
    static_assert(2 * kTokens * kStride * sizeof(float) <= 2 * Shared::kStage);
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
    // A warp a token's block of 32 rows.
    constexpr int kBlocks = kRows / 32;
    const int first_block = static_cast<int>(blockIdx.x) * kBlocks;
    for (int i = warp; i < count * kBlocks; i += kWarps) {
      const int t = i / kBlocks;
      const int b = i % kBlocks;
      const int row = 32 * (first_block + b);
      if (row >= w.rows) continue;
      const float* from = values + t * kStride + 32 * b + lane;
      quantize_tensor_block(swiglu_device(from[0], from[kTokens * kStride]), lane, slot_of(t),
                            first_block + b, quantized);
    }
  }
}

template <TensorType kType, int kWarps, int kTokens, int kMinBlocks, bool kSwiglu, bool kKeep>
void launch_tensor_matmul(const Stream& stream, const DeviceMatrix& weight,
                          const std::uint8_t* up_data, const TensorActivations& x,
                          std::size_t num_tiles, const TensorTokens& tokens, float* y,
                          const TensorActivations& quantized) {
  using Shared = TensorShared<kType, kWarps, kTokens>;
  CHECK(x.stride == DeviceActivations::stride_for(weight.columns));
  CHECK(num_tiles <= 65535);
  const dim3 grid(blocks_for(weight.rows, (kSwiglu ? 8 : 16) * kWarps),
                  static_cast<unsigned>(num_tiles));
  Launch{grid, dim3(kWarps * kWarp), Shared::kBytes, false, true}(
      stream, tensor_matmul_kernel<kType, kWarps, kTokens, kMinBlocks, kSwiglu, kKeep>,
      MatrixArgument(weight), up_data, x, tokens, y, quantized);
}

}  // namespace
}  // namespace refute::cuda
