// Matrix products with stored weights, rows of the embedding. Contract: kernels/matmul.h, embed.h.
//
// Grid: (64 rows, tiles of 8 tokens) quantized; (8 rows, tokens or slots) float. Block: 8 warps, a
// quantized warp has 8 rows (4 threads each), a float one has 1. Shared: none.
// Moves: weights once per tile of 8 tokens (quantized) or token (float), from the second-level
// cache but for the first; activations from the caches. Bound by memory for one token. Numerics:
// the orders of kernels/matmul.h; bitwise equal to cpu::.
#include "kernels/check.h"
#include "kernels/cuda/fragment.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/numerics.cuh"
#include "kernels/cuda/ops.h"

namespace refute::cuda {
namespace {

constexpr int kWarpsPerBlock = 8;
constexpr unsigned kThreads = kWarpsPerBlock * kWarp;

// Which rows of x and y a tile of tokens means.
struct TokenTiles {
  DeviceSlots slots;  // slots.tiles null: rows 8 * tile .. of num_rows.
  int num_rows = 0;
  int slots_per_row = 1;  // x row = slot / slots_per_row.
};

// q, meta: padded rows of `stride`; y [rows of x or slots, w.rows]
template <TensorType kType>
__global__ void __launch_bounds__(kThreads)
    matmul_quantized_kernel(MatrixArgument w, const std::int8_t* q, const ActivationMeta* meta,
                            std::size_t stride, TokenTiles tiles, float* y) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int group =
      static_cast<int>(blockIdx.x) * kWarpsPerBlock + static_cast<int>(threadIdx.x) / kWarp;
  if (8 * group >= w.rows) return;
  const int row = 8 * group + lane / 4;
  const int p = lane % 4;

  const std::uint8_t* matrix = w.data;
  const int tile = static_cast<int>(blockIdx.y);
  int begin = kTileTokens * tile;
  int count = min(kTileTokens, tiles.num_rows - begin);
  const std::int32_t* slots = nullptr;
  if (tiles.slots.tiles != nullptr) {
    if (tile >= *tiles.slots.num_tiles) return;
    const SlotTile of = tiles.slots.tiles[tile];
    matrix += static_cast<std::size_t>(of.expert) * w.expert_stride;
    begin = of.begin;
    count = of.count;
    slots = tiles.slots.slots;
  }
  int y_row[kTileTokens];
#pragma unroll
  for (int t = 0; t < kTileTokens; ++t) {
    y_row[t] = 0;
    if (t < count) y_row[t] = slots != nullptr ? slots[begin + t] : begin + t;
  }

  float sum[kTileTokens] = {};
  for (int s = 0; s < w.super_blocks(); ++s) {
    const Unpacked<kType> weights(load_fragment<kType>(w, matrix, row, s, p), p);
#pragma unroll
    for (int t = 0; t < kTileTokens; ++t) {
      if (t >= count) continue;
      const auto x_row = static_cast<std::size_t>(y_row[t] / tiles.slots_per_row);
      ActivationLane x;
      x.load(q + x_row * stride, meta + x_row * (stride / 32), s, p);
      sum[t] = __fadd_rn(sum[t], super_block_sum(weights.dot(x)));
    }
  }
  if (p != 0 || row >= w.rows) return;
#pragma unroll
  for (int t = 0; t < kTileTokens; ++t) {
    if (t < count) {
      y[static_cast<std::size_t>(y_row[t]) * static_cast<std::size_t>(w.rows) + row] = sum[t];
    }
  }
}

// x [rows, w.columns], y [grid.y, w.rows]; ids: the expert of each row of y, or null.
template <typename Stored>
__global__ void __launch_bounds__(kThreads)
    matmul_float_kernel(MatrixArgument w, const float* x, const std::int32_t* ids,
                        int slots_per_row, float* y) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int row =
      static_cast<int>(blockIdx.x) * kWarpsPerBlock + static_cast<int>(threadIdx.x) / kWarp;
  if (row >= w.rows) return;
  const std::size_t slot = blockIdx.y;
  const std::uint8_t* from = w.data + static_cast<std::size_t>(row) * w.row_bytes;
  if (ids != nullptr) from += static_cast<std::size_t>(ids[slot]) * w.expert_stride;
  const float* x_row =
      x + slot / static_cast<std::size_t>(slots_per_row) * static_cast<std::size_t>(w.columns);
  float sum[4] = {};
  for (int c = lane; c < w.columns; c += kLanes) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int at = c + kWarp * j;
      if (at < w.columns) sum[j] = __fmaf_rn(Stored::load(from, at), x_row[at], sum[j]);
    }
  }
  const float result = halving_tree(sum[0], sum[1], sum[2], sum[3]);
  if (lane == 0) y[slot * static_cast<std::size_t>(w.rows) + row] = result;
}

// y [num_tokens, w.columns]; grid: (64 super-block quarters, tokens)
template <TensorType kType>
__global__ void embed_quantized_kernel(MatrixArgument w, const std::int32_t* tokens, float* y) {
  const int item = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int s = item / 4;
  const int p = item % 4;
  if (s >= w.super_blocks()) return;
  const int row = tokens[blockIdx.y];
  const Unpacked<kType> weights(load_fragment<kType>(w, w.data, row, s, p), p);
  float* to = y + static_cast<std::size_t>(blockIdx.y) * static_cast<std::size_t>(w.columns);
  const int first = 256 * s + 64 * p;
#pragma unroll
  for (int b = 0; b < 2; ++b) {
#pragma unroll
    for (int l = 0; l < 32; ++l) {
      const int c = first + 32 * b + l;
      if (c < w.columns) to[c] = weights.element(b, l);
    }
  }
}

template <typename Stored>
__global__ void embed_float_kernel(MatrixArgument w, const std::int32_t* tokens, float* y) {
  const int c = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (c >= w.columns) return;
  const std::uint8_t* row = w.data + static_cast<std::size_t>(tokens[blockIdx.y]) * w.row_bytes;
  y[static_cast<std::size_t>(blockIdx.y) * static_cast<std::size_t>(w.columns) + c] =
      Stored::load(row, c);
}

unsigned grid_rows(std::size_t rows) {
  CHECK(rows <= 65535);
  return static_cast<unsigned>(rows);
}

void launch_quantized(const Stream& stream, const DeviceMatrix& weight, const DeviceActivations& x,
                      std::size_t num_tiles, const TokenTiles& tiles, float* y) {
  CHECK(x.stride == DeviceActivations::stride_for(weight.columns));
  const MatrixArgument w(weight);
  const Launch launch{dim3(blocks_for(weight.rows, 8 * kWarpsPerBlock), grid_rows(num_tiles)),
                      dim3(kThreads)};
  const auto with = [&](auto kernel) {
    launch(stream, kernel, w, x.q, x.meta, x.stride, tiles, y);
  };
  switch (weight.type) {
    case TensorType::kQ8_0:
      return with(matmul_quantized_kernel<TensorType::kQ8_0>);
    case TensorType::kQ4_K:
      return with(matmul_quantized_kernel<TensorType::kQ4_K>);
    case TensorType::kQ5_K:
      return with(matmul_quantized_kernel<TensorType::kQ5_K>);
    case TensorType::kQ6_K:
      return with(matmul_quantized_kernel<TensorType::kQ6_K>);
    default:
      CHECK(false);
  }
}

void launch_float(const Stream& stream, const DeviceMatrix& weight, const float* x,
                  const std::int32_t* ids, std::size_t slots_per_row, std::size_t num_slots,
                  float* y) {
  const MatrixArgument w(weight);
  const Launch launch{dim3(blocks_for(weight.rows, kWarpsPerBlock), grid_rows(num_slots)),
                      dim3(kThreads)};
  const auto with = [&](auto kernel) {
    launch(stream, kernel, w, x, ids, static_cast<int>(slots_per_row), y);
  };
  switch (weight.type) {
    case TensorType::kF32:
      return with(matmul_float_kernel<StoredF32>);
    case TensorType::kF16:
      return with(matmul_float_kernel<StoredF16>);
    case TensorType::kBF16:
      return with(matmul_float_kernel<StoredBF16>);
    default:
      CHECK(false);
  }
}

}  // namespace

void matmul_quantized(const Stream& stream, const DeviceMatrix& weight, const DeviceActivations& x,
                      std::size_t num_tokens, float* y) {
  TokenTiles tiles;
  tiles.num_rows = static_cast<int>(num_tokens);
  launch_quantized(stream, weight, x, (num_tokens + kTileTokens - 1) / kTileTokens, tiles, y);
}

void matmul_float(const Stream& stream, const DeviceMatrix& weight, const float* x,
                  std::size_t num_tokens, float* y) {
  launch_float(stream, weight, x, nullptr, 1, num_tokens, y);
}

void matmul_slots_quantized(const Stream& stream, const DeviceMatrix& weight,
                            const DeviceActivations& x, std::size_t slots_per_row,
                            const DeviceSlots& slots, std::size_t num_slots,
                            std::size_t num_experts, float* y) {
  TokenTiles tiles;
  tiles.slots = slots;
  tiles.num_rows = static_cast<int>(num_slots);
  tiles.slots_per_row = static_cast<int>(slots_per_row);
  launch_quantized(stream, weight, x, DeviceSlots::max_tiles(num_slots, num_experts), tiles, y);
}

void matmul_slots_float(const Stream& stream, const DeviceMatrix& weight, const float* x,
                        std::size_t slots_per_row, const std::int32_t* ids, std::size_t num_slots,
                        float* y) {
  launch_float(stream, weight, x, ids, slots_per_row, num_slots, y);
}

void embed(const Stream& stream, const DeviceMatrix& embed_tokens, const std::int32_t* tokens,
           std::size_t num_tokens, float* y) {
  const MatrixArgument w(embed_tokens);
  const dim3 by_quarter(blocks_for(static_cast<std::size_t>(w.super_blocks()) * 4, 64),
                        grid_rows(num_tokens));
  const auto quantized = [&](auto kernel) {
    Launch{by_quarter, dim3(64)}(stream, kernel, w, tokens, y);
  };
  const dim3 by_element(blocks_for(embed_tokens.columns, 256), grid_rows(num_tokens));
  const auto plain = [&](auto kernel) {
    Launch{by_element, dim3(256)}(stream, kernel, w, tokens, y);
  };
  switch (embed_tokens.type) {
    case TensorType::kF32:
      return plain(embed_float_kernel<StoredF32>);
    case TensorType::kF16:
      return plain(embed_float_kernel<StoredF16>);
    case TensorType::kBF16:
      return plain(embed_float_kernel<StoredBF16>);
    case TensorType::kQ8_0:
      return quantized(embed_quantized_kernel<TensorType::kQ8_0>);
    case TensorType::kQ4_K:
      return quantized(embed_quantized_kernel<TensorType::kQ4_K>);
    case TensorType::kQ5_K:
      return quantized(embed_quantized_kernel<TensorType::kQ5_K>);
    case TensorType::kQ6_K:
      return quantized(embed_quantized_kernel<TensorType::kQ6_K>);
    default:
      CHECK(false);
  }
}

}  // namespace refute::cuda
