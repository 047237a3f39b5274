#include "engine/model_layout.h"

#include <array>

#include "kernels/check.h"

namespace refute {
namespace {

constexpr std::array<TensorRole, 12> kLayerRoles = {
    TensorRole::kInputLayernorm, TensorRole::kQProj,
    TensorRole::kKProj,          TensorRole::kVProj,
    TensorRole::kOProj,          TensorRole::kQNorm,
    TensorRole::kKNorm,          TensorRole::kPostAttentionLayernorm,
    TensorRole::kRouter,         TensorRole::kGateProj,
    TensorRole::kUpProj,         TensorRole::kDownProj,
};

}  // namespace

std::vector<std::size_t> tensor_shape(const Config& config, TensorRole role) {
  const std::size_t hidden_size = config.hidden_size;
  const std::size_t query_size = config.num_attention_heads * config.head_dim;
  const std::size_t key_value_size = config.num_key_value_heads * config.head_dim;
  switch (role) {
    case TensorRole::kEmbedTokens:
    case TensorRole::kLmHead:
      return {config.vocab_size, hidden_size};
    case TensorRole::kNorm:
    case TensorRole::kInputLayernorm:
    case TensorRole::kPostAttentionLayernorm:
      return {hidden_size};
    case TensorRole::kQProj:
      return {query_size, hidden_size};
    case TensorRole::kKProj:
    case TensorRole::kVProj:
      return {key_value_size, hidden_size};
    case TensorRole::kOProj:
      return {hidden_size, query_size};
    case TensorRole::kQNorm:
    case TensorRole::kKNorm:
      return {config.head_dim};
    case TensorRole::kRouter:
      return {config.num_experts, hidden_size};
    case TensorRole::kGateProj:
    case TensorRole::kUpProj:
      return {config.num_experts, config.moe_intermediate_size, hidden_size};
    case TensorRole::kDownProj:
      return {config.num_experts, hidden_size, config.moe_intermediate_size};
  }
  CHECK(false);
  return {};
}

bool is_norm(TensorRole role) {
  switch (role) {
    case TensorRole::kNorm:
    case TensorRole::kInputLayernorm:
    case TensorRole::kPostAttentionLayernorm:
    case TensorRole::kQNorm:
    case TensorRole::kKNorm:
      return true;
    default:
      return false;
  }
}

std::vector<TensorPlace> model_tensors(const Config& config) {
  std::vector<TensorPlace> places = {{TensorRole::kEmbedTokens, 0}};
  for (std::size_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    for (const TensorRole role : kLayerRoles) places.push_back({role, layer});
  }
  places.push_back({TensorRole::kNorm, 0});
  if (!config.tie_word_embeddings) places.push_back({TensorRole::kLmHead, 0});
  return places;
}

}  // namespace refute
