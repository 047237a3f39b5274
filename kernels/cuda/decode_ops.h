// One decoded token in six kernels a layer: the ops of ops.h fused, the same device functions and
// the same bits. For quantized weights stored wholly as tiles and a router of floats; anything else
// runs the plain ops.
//
// Every kernel prefetches weights that routing does not decide, and only then waits for the kernel
// in front of it (programmatic dependent launch).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/attention_shape.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/stream.h"

namespace refute::cuda {

struct DecodeShape {
  std::size_t hidden_size = 0;
  AttentionShape heads;
  std::size_t num_experts = 0;
  std::size_t num_experts_per_tok = 0;
  std::size_t moe_intermediate_size = 0;
  bool norm_topk_prob = true;
  float rms_norm_eps = 0.0f;
  std::size_t capacity = 0;  // Positions of the cache.
};

// The weights of a layer.
struct DeviceLayer {
  const float* input_layernorm = nullptr;
  DeviceMatrix q_proj, k_proj, v_proj, o_proj;
  const float* q_norm = nullptr;
  const float* k_norm = nullptr;
  const float* post_attention_layernorm = nullptr;
  DeviceMatrix router, gate_proj, up_proj, down_proj;
};

// Its keys and values, [capacity, key_value_size] each.
struct LayerCache {
  std::uint16_t* k = nullptr;
  std::uint16_t* v = nullptr;
};

// Intermediate results of one token.
struct DecodeBuffers {
  float* hidden = nullptr;         // [hidden_size]
  float* q = nullptr;              // [query_size], before its norm
  float* k = nullptr;              // [key_value_size], before its norm
  float* v = nullptr;              // [key_value_size]
  DeviceActivations heads;         // [1, query_size]
  DeviceActivations ffn_norm;      // [1, hidden_size]
  float* router_logits = nullptr;  // [num_experts]
  std::int32_t* ids = nullptr;     // [num_experts_per_tok]
  float* weights = nullptr;        // [num_experts_per_tok]
  DeviceActivations inner;         // [num_experts_per_tok, moe_intermediate_size]
  float* scratch = nullptr;        // [attention_scratch]
  float* logits = nullptr;         // [vocab_size]
  const float* cosines = nullptr;  // [capacity, head_dim / 2]
  const float* sines = nullptr;
  DecodeState* state = nullptr;
};

// Floats that attention of one token needs beside its results.
std::size_t attention_scratch(const AttentionShape& shape, std::size_t capacity);

bool can_fuse(const DecodeShape& shape, const DeviceLayer& layer);
bool can_fuse_lm_head(const DecodeShape& shape, const DeviceMatrix& lm_head);

// The kernels of a layer, so that their times can be told apart; anything but kAllParts gives no
// useful result.
inline constexpr unsigned kPartQkv = 1;
inline constexpr unsigned kPartAttention = 2;
inline constexpr unsigned kPartOut = 4;
inline constexpr unsigned kPartRouter = 8;
inline constexpr unsigned kPartGateUp = 16;
inline constexpr unsigned kPartDown = 32;
inline constexpr unsigned kAllParts = 63;

// hidden, in place, through one layer. Precondition: can_fuse.
void decode_layer(const Stream& stream, const DecodeShape& shape, const DeviceLayer& layer,
                  const LayerCache& cache, std::size_t layer_index, const DecodeBuffers& buffers,
                  unsigned parts = kAllParts);
// The part of it in a file of its own.
void decode_attention(const Stream& stream, const DecodeShape& shape, const DeviceLayer& layer,
                      const LayerCache& cache, const DecodeBuffers& buffers);
// All layers in one kernel, for the shape of Qwen3-30B-A3B (kernels/cuda/decode_persistent.cu).
struct alignas(16) PersistentMatrix {
  const std::uint8_t* data = nullptr;
  std::size_t expert_stride = 0;
  unsigned group_bytes = 0;  // Of 8 rows.
  unsigned tile_bytes = 0;
  TensorType type = TensorType::kQ4_K;
};
struct alignas(16) PersistentLayer {
  const float* input_layernorm = nullptr;
  const float* post_attention_layernorm = nullptr;
  const float* q_norm = nullptr;
  const float* k_norm = nullptr;
  const float* router = nullptr;
  std::uint16_t* k_cache = nullptr;
  std::uint16_t* v_cache = nullptr;
  PersistentMatrix qkv[3];
  PersistentMatrix o_proj;
  PersistentMatrix gate_up[2];
  PersistentMatrix down_proj;
};
bool can_persist(const Stream& stream, const DecodeShape& shape,
                 std::span<const DeviceLayer> layers);
PersistentLayer persistent_layer(const DeviceLayer& layer, const LayerCache& cache);
// Words of memory in which the blocks of the kernel hand results to each other.
std::size_t exchange_words(const DecodeShape& shape);
// hidden, in place, through all layers. on_device: their persistent_layer, in device memory;
// exchange: exchange_words there, 0 at first, that nobody else writes. Precondition: can_persist.
void decode_layers(const Stream& stream, const DecodeShape& shape,
                   std::span<const DeviceLayer> layers, const PersistentLayer* on_device,
                   std::uint64_t* exchange, const DecodeBuffers& buffers);
// What is before the layers and behind them.
struct DecodeEnds {
  DeviceMatrix embed_tokens;
  const float* norm = nullptr;
  DeviceMatrix lm_head;
  std::int32_t* chosen = nullptr;  // [capacity]
};
// How many tokens decode_tokens takes: none, one, or as many as there are positions.
std::size_t most_persistent_tokens(const Stream& stream, const DecodeShape& shape,
                                   std::span<const DeviceLayer> layers, const DecodeEnds& ends);
// Tokens, each the likeliest behind the one before, in one kernel; hidden is the embedding of the
// first one. logits are those of the last token; state and chosen as by argmax_step after each.
// Otherwise as decode_layers. Precondition: 1 <= num_tokens <= most_persistent_tokens.
void decode_tokens(const Stream& stream, const DecodeShape& shape,
                   std::span<const DeviceLayer> layers, const PersistentLayer* on_device,
                   std::uint64_t* exchange, const DecodeBuffers& buffers, const DecodeEnds& ends,
                   std::size_t num_tokens);
// logits = lm_head (norm (hidden)). Precondition: can_fuse_lm_head.
void decode_lm_head(const Stream& stream, const DecodeShape& shape, const float* norm,
                    const DeviceMatrix& lm_head, const DecodeBuffers& buffers);

}  // namespace refute::cuda
