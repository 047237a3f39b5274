// The ops on the GPU, one kernel each, bit for bit the results of cpu:: (formulas, shapes and
// orders of summation: kernels/*.h). All pointers are device memory, all calls asynchronous on the
// stream. decode_ops.h has the fused ones that decode one token.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/attention_shape.h"
#include "kernels/cuda/stream.h"
#include "kernels/quant/tensor_type_id.h"
#include "kernels/read_bandwidth.h"

namespace refute::cuda {

// A weight matrix, or one matrix for each of several experts `expert_stride` bytes apart.
struct DeviceMatrix {
  TensorType type = TensorType::kF32;
  const std::uint8_t* data = nullptr;
  std::size_t rows = 0;
  std::size_t columns = 0;
  std::size_t tiled_rows = 0;  // Rows in front that are stored as tiles (tiles.h).
  std::size_t row_bytes = 0;
  std::size_t expert_stride = 0;

  bool is_quantized() const {
    return type == TensorType::kQ8_0 || type == TensorType::kQ4_K || type == TensorType::kQ5_K ||
           type == TensorType::kQ6_K;
  }
};

// d and the sums of q over the first and the second 16 of a block of 32 activations.
struct alignas(8) ActivationMeta {
  float d;
  std::int16_t first_sum;
  std::int16_t second_sum;
};

// Quantized activations (quant/activations.h), rows padded with zeros to whole super-blocks.
struct DeviceActivations {
  std::int8_t* q = nullptr;        // [rows, stride]
  ActivationMeta* meta = nullptr;  // [rows, stride / 32]
  std::size_t stride = 0;          // Elements, a multiple of 256.

  static std::size_t stride_for(std::size_t columns) { return (columns + 255) / 256 * 256; }
};

// The slots of a MoE block (engine/moe_slots.h) by expert, in tiles of at most kTileTokens.
inline constexpr int kTileTokens = 8;
struct SlotTile {
  std::int32_t expert;
  std::int32_t begin;  // In `slots`.
  std::int32_t count;
};
struct DeviceSlots {
  std::int32_t* slots = nullptr;  // [num_slots], grouped by expert, ascending in each.
  SlotTile* tiles = nullptr;      // [max_tiles]
  std::int32_t* num_tiles = nullptr;
  std::int32_t* counts = nullptr;  // [num_experts], scratch

  static std::size_t max_tiles(std::size_t num_slots, std::size_t num_experts) {
    const std::size_t used = num_slots < num_experts ? num_slots : num_experts;
    return used + num_slots / kTileTokens;
  }
};

// Where a row of router logits was not finite: the smallest of all such places, kNoError without.
inline constexpr std::uint64_t kNoError = ~std::uint64_t{0};
inline std::uint64_t error_key(std::size_t layer, std::size_t token, std::size_t expert) {
  return (static_cast<std::uint64_t>(layer) << 48) | (static_cast<std::uint64_t>(token) << 20) |
         static_cast<std::uint64_t>(expert);
}

// What a sequence's next call starts from; the graph reads it, so that one graph serves them all.
struct DecodeState {
  std::int32_t token = 0;         // To be appended (decode).
  std::int32_t position = 0;      // Of the first token of the call.
  std::int32_t step = 0;          // Tokens decoded since the host wrote this.
  std::int32_t failed = 0;        // Not 0: something was not finite, and nothing advances any more.
  std::int32_t cache_failed = 0;  // Not 0: a key or a value was not finite as float16.
  std::uint64_t router_error = kNoError;
  // Of lm_head, of tokens at even positions and at odd ones: what decode_tokens has given to
  // blocks.
  std::uint32_t slots_taken[2] = {};
};

// The heads of a call's tokens behind their projections and before their norms, and where their
// keys and values go.
struct CallHeads {
  float* q = nullptr;        // [num_tokens, query_size]
  const float* k = nullptr;  // [num_tokens, key_value_size]
  const float* v = nullptr;
  const float* q_norm = nullptr;  // [head_dim]
  const float* k_norm = nullptr;
  const float* cosines = nullptr;  // [positions, head_dim / 2]
  const float* sines = nullptr;
  std::uint16_t* k_cache = nullptr;  // [positions, key_value_size]
  std::uint16_t* v_cache = nullptr;
};

// y[t] = the row tokens[t] of embed_tokens   y [num_tokens, columns]
void embed(const Stream& stream, const DeviceMatrix& embed_tokens, const std::int32_t* tokens,
           std::size_t num_tokens, float* y);

// x, y [num_rows, size], weight [size]. y may be x.
void rms_norm(const Stream& stream, const float* x, const float* weight, std::size_t num_rows,
              std::size_t size, float epsilon, float* y);

// x [rows, columns]
void quantize_activations(const Stream& stream, const float* x, std::size_t rows,
                          std::size_t columns, const DeviceActivations& activations);

// y [num_tokens, rows] with a quantized weight, and with F32, F16 or BF16.
void matmul_quantized(const Stream& stream, const DeviceMatrix& weight, const DeviceActivations& x,
                      std::size_t num_tokens, float* y);
void matmul_float(const Stream& stream, const DeviceMatrix& weight, const float* x,
                  std::size_t num_tokens, float* y);

// The same for every slot: y[slot] = expert ids[slot] times row slot / slots_per_row of x.
void matmul_slots_quantized(const Stream& stream, const DeviceMatrix& weight,
                            const DeviceActivations& x, std::size_t slots_per_row,
                            const DeviceSlots& slots, std::size_t num_slots,
                            std::size_t num_experts, float* y);
void matmul_slots_float(const Stream& stream, const DeviceMatrix& weight, const float* x,
                        std::size_t slots_per_row, const std::int32_t* ids, std::size_t num_slots,
                        float* y);
// ids [num_slots], each in [0, num_experts).
void group_slots(const Stream& stream, const std::int32_t* ids, std::size_t num_slots,
                 std::size_t num_experts, const DeviceSlots& slots);

// Row t stands at position *position + t. cosines, sines [positions, head_dim / 2]; x [num_tokens,
// num_heads * head_dim], in place.
void rope(const Stream& stream, const float* cosines, const float* sines,
          const std::int32_t* position, std::size_t num_tokens, std::size_t num_heads,
          std::size_t head_dim, float* x);

// cache[state->position + t] = float16 of x[t]   x [num_tokens, columns]. An element that is not
// finite as float16 sets state->cache_failed.
void append_to_cache(const Stream& stream, const float* x, DecodeState* state,
                     std::size_t num_tokens, std::size_t columns, std::uint16_t* cache);

// Token t at position *position + t sees positions up to its own. head_dim: at most kMaxHeadDim.
inline constexpr std::size_t kMaxHeadDim = 1024;
void attention(const Stream& stream, const AttentionShape& shape, const float* q,
               const std::uint16_t* k, const std::uint16_t* v, const std::int32_t* position,
               std::size_t num_tokens, float* y);

// forced: ids chosen beforehand, or null. A row that is not finite gets ids 0 .. k-1 and weights of
// NaN, and lowers *error to its error_key.
void route(const Stream& stream, const float* logits, std::size_t num_tokens,
           std::size_t num_experts, std::size_t num_experts_per_tok, bool norm_topk_prob,
           const std::int32_t* forced, std::size_t layer, std::int32_t* ids, float* weights,
           std::uint64_t* error);

// Elementwise over `size`; y may be an input.
void swiglu(const Stream& stream, const float* gate, const float* up, std::size_t size, float* y);
void add(const Stream& stream, const float* a, const float* b, std::size_t size, float* y);
// expert_out [num_tokens * k, size], weights [num_tokens, k], y [num_tokens, size]
void combine(const Stream& stream, const float* expert_out, const float* weights,
             std::size_t num_tokens, std::size_t num_experts_per_tok, std::size_t size, float* y);

// The likeliest token (of equal logits the lowest id) becomes state->token and tokens[step]; the
// position moves on by one. When a logit, a router logit or an element of the cache is not finite,
// only state->failed is set. partial: kArgmaxBlocks elements.
inline constexpr std::size_t kArgmaxBlocks = 512;
struct ArgmaxPartial {
  float value;
  std::int32_t index;  // -1: a value that is not finite.
};
void argmax_step(const Stream& stream, const float* logits, std::size_t vocab_size,
                 ArgmaxPartial* partial, DecodeState* state, std::int32_t* tokens);

// Of a few passes of a stream of reads over `bytes` (many MiB) at `data`.
ReadBandwidth measure_read_bandwidth(const Stream& stream, const std::uint8_t* data,
                                     std::size_t bytes);

}  // namespace refute::cuda
