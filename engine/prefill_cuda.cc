#include "engine/prefill_cuda.h"

#include <algorithm>

#include "kernels/check.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/prefill_ops.h"

namespace refute::cuda {
namespace {

// The plain path's memory in the order of the tensor cores.
TensorActivations tensor_order(const DeviceActivations& plain) {
  static_assert(sizeof(ActivationMeta) == sizeof(BlockScale));
  return {plain.q, reinterpret_cast<BlockScale*>(plain.meta), plain.stride};
}
TensorSlots tensor_order(const DeviceSlots& plain) {
  static_assert(kTensorTokens >= kTileTokens);
  return {plain.slots, plain.tiles, plain.num_tiles};
}

bool can_prefill(const Config& config, const DeviceLayer& layer) {
  return std::ranges::all_of(
             std::initializer_list<const DeviceMatrix*>{&layer.q_proj, &layer.k_proj, &layer.v_proj,
                                                        &layer.o_proj, &layer.down_proj},
             [](const DeviceMatrix* weight) { return has_tensor_product(*weight); }) &&
         has_tensor_swiglu(layer.gate_proj, layer.up_proj) && has_prefill_router(layer.router) &&
         config.hidden_size % 256 == 0;
}

class Prefill {
 public:
  explicit Prefill(const PrefillCall& call)
      : call_(call),
        context_(call.context),
        config_(call.config),
        heads_(call.config.attention_shape()),
        norm_(tensor_order(call.buffers.norm_activations)),
        attended_(tensor_order(call.buffers.heads_activations)),
        inner_(tensor_order(call.buffers.moe.inner)),
        slots_(tensor_order(call.buffers.moe.slots)) {}

  void run(std::span<const DeviceLayer> layers) const {
    norm({}, layers.front().input_layernorm, nullptr);
    for (std::size_t i = 0; i < layers.size(); ++i) {
      attention(layers[i], call_.sequence.layer_cache(i));
      const bool is_last = i + 1 == layers.size();
      experts(layers[i], i, is_last ? nullptr : layers[i + 1].input_layernorm);
    }
  }

 private:
  void norm(const NormInput& input, const float* weight, float* y) const {
    prefill_norm(context_, call_.buffers.hidden, input, weight, call_.num_tokens,
                 config_.hidden_size, config_.rms_norm_eps, y, norm_);
  }

  // From norm_ to hidden's norm behind it, in norm_ and buffers.norm.
  void attention(const DeviceLayer& layer, const LayerCache& cache) const {
    const CallBuffers& b = call_.buffers;
    const DeviceMatrix* const weights[] = {&layer.q_proj, &layer.k_proj, &layer.v_proj};
    float* const projections[] = {b.q, b.k, b.v};
    tensor_matmuls(context_, weights, norm_, call_.num_tokens, projections);
    const CallHeads heads{b.q,
                          b.k,
                          b.v,
                          layer.q_norm,
                          layer.k_norm,
                          call_.sequence.cosines,
                          call_.sequence.sines,
                          cache.k,
                          cache.v};
    DecodeState* const state = call_.sequence.state;
    prefill_heads(context_, heads_, heads, call_.num_tokens, config_.rms_norm_eps, state);
    const auto attend =
        call_.attention == PrefillAttention::kTensor ? prefill_attention_tensor : prefill_attention;
    attend(context_, heads_, b.q, cache.k, cache.v, &state->position, call_.num_tokens, b.heads,
           attended_);
    tensor_matmul(context_, layer.o_proj, attended_, call_.num_tokens, b.attn_out);
    NormInput input;
    input.add = b.attn_out;
    norm(input, layer.post_attention_layernorm, b.norm);
  }

  // From norm_ and buffers.norm to hidden, and its norm for the next layer.
  void experts(const DeviceLayer& layer, std::size_t index, const float* next_norm) const {
    const MoeBuffers& moe = call_.buffers.moe;
    const std::size_t k = config_.num_experts_per_tok;
    const std::size_t num_experts = config_.num_experts;
    const std::size_t num_slots = call_.num_tokens * k;
    prefill_router(context_, layer.router, call_.buffers.norm, call_.num_tokens, moe.router_logits);
    route(context_, moe.router_logits, call_.num_tokens, num_experts, k, config_.norm_topk_prob,
          nullptr, index, moe.ids, moe.weights, &call_.sequence.state->router_error);
    group_tensor_slots(context_, moe.ids, num_slots, num_experts, slots_);
    tensor_swiglu_slots(context_, layer.gate_proj, layer.up_proj, norm_, k, slots_, num_slots,
                        num_experts, inner_);
    tensor_matmul_slots(context_, layer.down_proj, inner_, 1, slots_, num_slots, num_experts,
                        moe.out);
    if (next_norm != nullptr) {
      NormInput input;
      input.expert_out = moe.out;
      input.expert_weights = moe.weights;
      input.num_experts_per_tok = static_cast<int>(k);
      norm(input, next_norm, nullptr);
      return;
    }
    float* const hidden = call_.buffers.hidden;
    const std::size_t size = config_.hidden_size;
    combine(context_, moe.out, moe.weights, call_.num_tokens, k, size, call_.buffers.moe_out);
    add(context_, hidden, call_.buffers.moe_out, call_.num_tokens * size, hidden);
  }

  const PrefillCall& call_;
  const Context& context_;
  const Config& config_;
  AttentionShape heads_;
  TensorActivations norm_;      // [num_tokens, hidden_size]
  TensorActivations attended_;  // [num_tokens, query_size]
  TensorActivations inner_;     // [num_tokens * k, moe_intermediate_size]
  TensorSlots slots_;
};

}  // namespace

bool can_prefill(const Context& context, const Config& config,
                 std::span<const DeviceLayer> layers) {
  const AttentionShape heads = config.attention_shape();
  return has_prefill_heads(heads) && has_prefill_attention(context, heads) &&
         std::ranges::all_of(layers,
                             [&](const DeviceLayer& layer) { return can_prefill(config, layer); });
}

void run_prefill_layers(const PrefillCall& call, std::span<const DeviceLayer> layers) {
  CHECK(can_prefill(call.context, call.config, layers));
  if (layers.empty() || call.num_tokens == 0) return;
  Prefill(call).run(layers);
}

}  // namespace refute::cuda
