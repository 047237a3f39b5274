#include "engine/cuda_buffers.h"

namespace refute::cuda {

DeviceActivations Arena::take_activations(std::size_t rows, std::size_t columns) {
  DeviceActivations activations;
  activations.stride = DeviceActivations::stride_for(columns);
  activations.q = take<std::int8_t>(rows * activations.stride);
  activations.meta = take<ActivationMeta>(rows * activations.stride / 32);
  return activations;
}

MoeBuffers MoeBuffers::take(Arena& arena, const Config& config, std::size_t num_tokens) {
  const std::size_t num_slots = num_tokens * config.num_experts_per_tok;
  MoeBuffers buffers;
  buffers.input = arena.take_activations(num_tokens, config.hidden_size);
  buffers.router_logits = arena.take<float>(num_tokens * config.num_experts);
  buffers.forced = arena.take<std::int32_t>(num_slots);
  buffers.ids = arena.take<std::int32_t>(num_slots);
  buffers.weights = arena.take<float>(num_slots);
  buffers.slots.slots = arena.take<std::int32_t>(num_slots);
  buffers.slots.tiles = arena.take<SlotTile>(DeviceSlots::max_tiles(num_slots, config.num_experts));
  buffers.slots.num_tiles = arena.take<std::int32_t>(1);
  buffers.slots.counts = arena.take<std::int32_t>(config.num_experts);
  buffers.gate = arena.take<float>(num_slots * config.moe_intermediate_size);
  buffers.up = arena.take<float>(num_slots * config.moe_intermediate_size);
  buffers.swiglu = arena.take<float>(num_slots * config.moe_intermediate_size);
  buffers.inner = arena.take_activations(num_slots, config.moe_intermediate_size);
  buffers.out = arena.take<float>(num_slots * config.hidden_size);
  return buffers;
}

CallBuffers CallBuffers::take(Arena& arena, const Config& config, std::size_t num_tokens) {
  const AttentionShape heads = config.attention_shape();
  CallBuffers buffers;
  buffers.tokens = arena.take<std::int32_t>(num_tokens);
  buffers.hidden = arena.take<float>(num_tokens * config.hidden_size);
  buffers.norm = arena.take<float>(num_tokens * config.hidden_size);
  buffers.q = arena.take<float>(num_tokens * heads.query_size());
  buffers.k = arena.take<float>(num_tokens * heads.key_value_size());
  buffers.v = arena.take<float>(num_tokens * heads.key_value_size());
  buffers.heads = arena.take<float>(num_tokens * heads.query_size());
  buffers.attn_out = arena.take<float>(num_tokens * config.hidden_size);
  buffers.moe_out = arena.take<float>(num_tokens * config.hidden_size);
  buffers.norm_activations = arena.take_activations(num_tokens, config.hidden_size);
  buffers.heads_activations = arena.take_activations(num_tokens, heads.query_size());
  buffers.moe = MoeBuffers::take(arena, config, num_tokens);
  return buffers;
}

SequenceBuffers SequenceBuffers::take(Arena& arena, const Config& config, std::size_t capacity) {
  const AttentionShape heads = config.attention_shape();
  SequenceBuffers buffers;
  buffers.layer_elements = capacity * heads.key_value_size();
  buffers.cache = arena.take<std::uint16_t>(config.num_hidden_layers * 2 * buffers.layer_elements);
  buffers.cosines = arena.take<float>(capacity * config.head_dim / 2);
  buffers.sines = arena.take<float>(capacity * config.head_dim / 2);
  buffers.scratch = arena.take<float>(attention_scratch(heads, capacity));
  buffers.state = arena.take<DecodeState>(1);
  buffers.chosen = arena.take<std::int32_t>(capacity);
  buffers.partial = arena.take<ArgmaxPartial>(kArgmaxBlocks);
  buffers.call = CallBuffers::take(arena, config, 1);
  buffers.logits = arena.take<float>(config.vocab_size);
  return buffers;
}

DecodeShape decode_shape(const Config& config, std::size_t capacity) {
  DecodeShape shape;
  shape.hidden_size = config.hidden_size;
  shape.heads = config.attention_shape();
  shape.num_experts = config.num_experts;
  shape.num_experts_per_tok = config.num_experts_per_tok;
  shape.moe_intermediate_size = config.moe_intermediate_size;
  shape.norm_topk_prob = config.norm_topk_prob;
  shape.rms_norm_eps = config.rms_norm_eps;
  shape.capacity = capacity;
  return shape;
}

DecodeBuffers decode_buffers(const SequenceBuffers& buffers) {
  DecodeBuffers decode;
  decode.hidden = buffers.call.hidden;
  decode.q = buffers.call.q;
  decode.k = buffers.call.k;
  decode.v = buffers.call.v;
  decode.heads = buffers.call.heads_activations;
  decode.ffn_norm = buffers.call.norm_activations;
  decode.router_logits = buffers.call.moe.router_logits;
  decode.ids = buffers.call.moe.ids;
  decode.weights = buffers.call.moe.weights;
  decode.inner = buffers.call.moe.inner;
  decode.scratch = buffers.scratch;
  decode.logits = buffers.logits;
  decode.cosines = buffers.cosines;
  decode.sines = buffers.sines;
  decode.state = buffers.state;
  return decode;
}

}  // namespace refute::cuda
