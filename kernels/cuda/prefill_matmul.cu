// Products of prefill on the int8 tensor cores. Contract: kernels/matmul.h.
//
// Grid: (64 rows of a matrix, or 32 of gate and 32 of up; tiles of up to 72 tokens, 16 where
// experts have few). Block: 4 warps of 16 rows, three or four blocks a multiprocessor. Shared: 73
// KiB (Q4_K), 75 KiB (Q6_K): two stages of a super-block's weights and activations, the scales of
// its rows. Moves: weights once per tile of tokens, activations once per 64 rows, from the
// second-level cache but for the first time. Bound by the ports of the register file: a block of 32
// columns of 16 rows x 8 tokens is one product, which occupies them for 6 cycles, and 18 float32
// instructions of 1 to 1.5; and nearly so by shared memory (6 of its cycles, for four warps).
// Numerics: exact int32 dots, then the operations of kernels/matmul.h; bitwise equal to cpu::.
// tensor_tile.cuh says why.
#include <algorithm>
#include <array>

#include "kernels/cuda/prefill_matmul.cuh"

namespace refute::cuda {
namespace {

constexpr int kWarps = 4;

template <TensorType kType, bool kSwiglu>
void launch(const Stream& stream, const TensorProduct& product, const TensorActivations& x,
            std::size_t tile_tokens, std::size_t num_tiles, const TensorTokens& tokens,
            const TensorActivations& quantized) {
  if (tile_tokens == kFewTensorTokens) {
    launch_tensor_matmul<kType, kWarps, kFewTensorTokens, 3, 4, kSwiglu, true>(
        stream, product, x, num_tiles, tokens, quantized);
  } else {
    // Full tiles are bound by the register file's ports: a conversion takes one operand and no port
    // of the float32 units, and the product needs no start.
    launch_tensor_matmul<kType, kWarps, kTensorTokens, 2, 3, kSwiglu, false>(
        stream, product, x, num_tiles, tokens, quantized);
  }
}

template <bool kSwiglu>
void launch(const Stream& stream, const TensorProduct& product, const TensorActivations& x,
            std::size_t tile_tokens, std::size_t num_tiles, const TensorTokens& tokens,
            const TensorActivations& quantized) {
  if (product.weights[0]->type == TensorType::kQ4_K) {
    launch<TensorType::kQ4_K, kSwiglu>(stream, product, x, tile_tokens, num_tiles, tokens,
                                       quantized);
  } else {
    launch<TensorType::kQ6_K, kSwiglu>(stream, product, x, tile_tokens, num_tiles, tokens,
                                       quantized);
  }
}

}  // namespace

bool has_tensor_product(const DeviceMatrix& weight) {
  return (weight.type == TensorType::kQ4_K || weight.type == TensorType::kQ6_K) &&
         weight.rows > 0 && weight.rows == weight.tiled_rows && weight.columns % 256 == 0;
}

bool has_tensor_swiglu(const DeviceMatrix& gate_proj, const DeviceMatrix& up_proj) {
  return has_tensor_product(gate_proj) && has_tensor_product(up_proj) &&
         gate_proj.type == up_proj.type && gate_proj.rows == up_proj.rows &&
         gate_proj.columns == up_proj.columns && gate_proj.expert_stride == up_proj.expert_stride &&
         gate_proj.rows % 256 == 0;
}

void tensor_matmuls(const Stream& stream, std::span<const DeviceMatrix* const> weights,
                    const TensorActivations& x, std::size_t num_tokens, std::span<float* const> y) {
  CHECK(weights.size() <= kMaxMatrices && y.size() == weights.size());
  // One launch a type.
  std::array<TensorProduct, 2> products;
  std::size_t num_products = 0;
  for (const TensorType type : {TensorType::kQ4_K, TensorType::kQ6_K}) {
    TensorProduct product;
    int count = 0;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      CHECK(has_tensor_product(*weights[i]));
      if (weights[i]->type != type) continue;
      product.weights[count] = weights[i];
      product.y[count++] = y[i];
    }
    if (count > 0) products[num_products++] = product;
  }
  if (num_products == 2) {
    products[0].starts_next = true;
    products[1].overlaps_previous = true;
  }
  for (std::size_t i = 0; i < num_products; ++i) {
    launch<false>(stream, products[i], x, tensor_tile_tokens(num_tokens, 1),
                  tiles_of_rows(num_tokens), row_tokens(num_tokens), {});
  }
}

void tensor_matmul(const Stream& stream, const DeviceMatrix& weight, const TensorActivations& x,
                   std::size_t num_tokens, float* y) {
  const DeviceMatrix* const weights[] = {&weight};
  float* const results[] = {y};
  tensor_matmuls(stream, weights, x, num_tokens, results);
}

void tensor_matmul_slots(const Stream& stream, const DeviceMatrix& weight,
                         const TensorActivations& x, std::size_t slots_per_row,
                         const TensorSlots& slots, std::size_t num_slots, std::size_t num_experts,
                         float* y) {
  CHECK(has_tensor_product(weight));
  launch<false>(stream, {{&weight}, {y}}, x, tensor_tile_tokens(num_slots, num_experts),
                TensorSlots::max_tiles(num_slots, num_experts),
                slot_tokens(slots, num_slots, num_experts, slots_per_row), {});
}

void tensor_swiglu_slots(const Stream& stream, const DeviceMatrix& gate_proj,
                         const DeviceMatrix& up_proj, const TensorActivations& x,
                         std::size_t slots_per_row, const TensorSlots& slots, std::size_t num_slots,
                         std::size_t num_experts, const TensorActivations& y) {
  CHECK(has_tensor_swiglu(gate_proj, up_proj));
  CHECK(y.stride == gate_proj.rows);
  launch<true>(stream, {{&gate_proj, &up_proj}, {}}, x, tensor_tile_tokens(num_slots, num_experts),
               TensorSlots::max_tiles(num_slots, num_experts),
               slot_tokens(slots, num_slots, num_experts, slots_per_row), y);
}

}  // namespace refute::cuda
