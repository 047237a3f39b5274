// The hyperparameters of a Qwen3-MoE model, by the names of Hugging Face's Qwen3MoeConfig.
#pragma once

#include <cstddef>

#include "kernels/attention.h"

namespace refute {

struct Config {
  std::size_t hidden_size = 0;
  std::size_t num_hidden_layers = 0;
  std::size_t num_attention_heads = 0;
  std::size_t num_key_value_heads = 0;
  std::size_t head_dim = 0;  // Not hidden_size / num_attention_heads in general.
  std::size_t num_experts = 0;
  std::size_t num_experts_per_tok = 0;
  std::size_t moe_intermediate_size = 0;
  std::size_t vocab_size = 0;
  std::size_t max_position_embeddings = 0;
  float rms_norm_eps = 0.0f;
  double rope_theta = 0.0;
  bool norm_topk_prob = true;
  bool tie_word_embeddings = false;  // lm_head is embed_tokens.

  AttentionShape attention_shape() const {
    return {num_attention_heads, num_key_value_heads, head_dim};
  }
};

}  // namespace refute
