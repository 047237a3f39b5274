// The ops of calls of many tokens (prefill): products on the tensor cores, and what stands between
// them in fewer passes. The bits of ops.h. All pointers are device memory, all calls asynchronous
// on the stream.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/cuda/ops.h"

namespace refute::cuda {

// A block of 32 activations: d, and the sum of its q.
struct alignas(8) BlockScale {
  float d;
  float sum;
};

// Quantized activations (quant/activations.h) in the order in which the tensor cores take them,
// rows padded with zeros to whole super-blocks: of the blocks 2j and 2j + 1 of a row, byte
// 64 j + 16 p + 8 b + 4 h + i is element 16 h + 4 p + i of block 2j + b.
struct TensorActivations {
  std::int8_t* q = nullptr;      // [rows, stride]
  BlockScale* scales = nullptr;  // [rows, stride / 32]
  std::size_t stride = 0;        // Elements, a multiple of 256.
};

// Tokens of a tile: few where an expert has few, so that less waits for more.
inline constexpr int kTensorTokens = 72;
inline constexpr int kFewTensorTokens = 16;
// For calls whose `num_rows` rows (of tokens, or slots) share num_groups (1, or the experts).
inline std::size_t tensor_tile_tokens(std::size_t num_rows, std::size_t num_groups) {
  constexpr std::size_t kFewRows = 16;  // Of a group that shares the grid with others.
  const bool few = num_groups > 1 ? num_rows <= kFewRows * num_groups : num_rows <= 256;
  return static_cast<std::size_t>(few ? kFewTensorTokens : kTensorTokens);
}

// Slots by expert, in tiles of at most tensor_tile_tokens(num_slots, num_experts).
struct TensorSlots {
  std::int32_t* slots = nullptr;  // [num_slots], grouped by expert, ascending in each.
  SlotTile* tiles = nullptr;      // [max_tiles]
  std::int32_t* num_tiles = nullptr;

  static std::size_t max_tiles(std::size_t num_slots, std::size_t num_experts) {
    const std::size_t used = num_slots < num_experts ? num_slots : num_experts;
    return used + num_slots / tensor_tile_tokens(num_slots, num_experts);
  }
};

// Whether the products below take this weight: Q4_K or Q6_K, all rows in tiles.
bool has_tensor_product(const DeviceMatrix& weight);
// The same for a pair that is multiplied with one x.
bool has_tensor_swiglu(const DeviceMatrix& gate_proj, const DeviceMatrix& up_proj);

// y[i] [num_tokens, rows of weights[i]] for one to three weights of the same columns.
void tensor_matmuls(const Stream& stream, std::span<const DeviceMatrix* const> weights,
                    const TensorActivations& x, std::size_t num_tokens, std::span<float* const> y);
// y [num_tokens, rows]
void tensor_matmul(const Stream& stream, const DeviceMatrix& weight, const TensorActivations& x,
                   std::size_t num_tokens, float* y);
// y[slot] = expert of slot times row slot / slots_per_row of x   y [num_slots, rows]
void tensor_matmul_slots(const Stream& stream, const DeviceMatrix& weight,
                         const TensorActivations& x, std::size_t slots_per_row,
                         const TensorSlots& slots, std::size_t num_slots, std::size_t num_experts,
                         float* y);
// y[slot] = silu(gate) * up of the slot's expert, quantized   y [num_slots, gate_proj.rows]
void tensor_swiglu_slots(const Stream& stream, const DeviceMatrix& gate_proj,
                         const DeviceMatrix& up_proj, const TensorActivations& x,
                         std::size_t slots_per_row, const TensorSlots& slots, std::size_t num_slots,
                         std::size_t num_experts, const TensorActivations& y);

// x [rows, columns]
void tensor_quantize(const Stream& stream, const float* x, std::size_t rows, std::size_t columns,
                     const TensorActivations& quantized);

// ids [num_slots], each in [0, num_experts).
void group_tensor_slots(const Stream& stream, const std::int32_t* ids, std::size_t num_slots,
                        std::size_t num_experts, const TensorSlots& slots);

// What is added to hidden before it is normalized: rows, the combined experts' rows (kernels/
// combine.h), or nothing.
struct NormInput {
  const float* add = nullptr;             // [num_rows, size]
  const float* expert_out = nullptr;      // [num_rows * num_experts_per_tok, size]
  const float* expert_weights = nullptr;  // [num_rows, num_experts_per_tok]
  int num_experts_per_tok = 0;
};
// hidden += input, in place; its norm, to `norm` (or null) and quantized. size: a multiple of 256.
void prefill_norm(const Stream& stream, float* hidden, const NormInput& input, const float* weight,
                  std::size_t num_rows, std::size_t size, float epsilon, float* norm,
                  const TensorActivations& quantized);

// q normed and turned, in place; k the same, and v, appended to the cache from state->position on.
bool has_prefill_heads(const AttentionShape& shape);
void prefill_heads(const Stream& stream, const AttentionShape& shape, const CallHeads& heads,
                   std::size_t num_tokens, float epsilon, DecodeState* state);

// Attention, to y and quantized. Shapes: head_dim 128, 8 query heads a key-value head; on devices
// whose blocks have 200 KiB of shared memory.
bool has_prefill_attention(const Stream& stream, const AttentionShape& shape);
void prefill_attention(const Stream& stream, const AttentionShape& shape, const float* q,
                       const std::uint16_t* k, const std::uint16_t* v, const std::int32_t* position,
                       std::size_t num_tokens, float* y, const TensorActivations& quantized);
// The same on the tensor cores, of the same shapes: other bits, class B. k and v must be finite as
// far as the call's last token sees. A row of q that is not finite gives a row of NaN. One of the
// next two: the second where the device has it.
void prefill_attention_tensor(const Stream& stream, const AttentionShape& shape, const float* q,
                              const std::uint16_t* k, const std::uint16_t* v,
                              const std::int32_t* position, std::size_t num_tokens, float* y,
                              const TensorActivations& quantized);
void prefill_attention_mma(const Stream& stream, const AttentionShape& shape, const float* q,
                           const std::uint16_t* k, const std::uint16_t* v,
                           const std::int32_t* position, std::size_t num_tokens, float* y,
                           const TensorActivations& quantized);
// Whether device and build have Hopper's products of a warpgroup.
bool has_wgmma();
void prefill_attention_wgmma(const Stream& stream, const AttentionShape& shape, const float* q,
                             const std::uint16_t* k, const std::uint16_t* v,
                             const std::int32_t* position, std::size_t num_tokens, float* y,
                             const TensorActivations& quantized);

// matmul_float with an F32 weight of some hundred rows, columns a multiple of 128.
bool has_prefill_router(const DeviceMatrix& weight);
void prefill_router(const Stream& stream, const DeviceMatrix& weight, const float* x,
                    std::size_t num_tokens, float* logits);

}  // namespace refute::cuda
