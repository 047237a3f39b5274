#include "engine/gguf_names.h"

#include <algorithm>
#include <array>

#include "kernels/check.h"

namespace refute {
namespace {

struct KeyName {
  ConfigKey key;
  std::string_view name;  // After the architecture and a dot.
};
constexpr std::array<KeyName, 18> kKeyNames = {{
    {ConfigKey::kHiddenSize, "embedding_length"},
    {ConfigKey::kNumHiddenLayers, "block_count"},
    {ConfigKey::kNumAttentionHeads, "attention.head_count"},
    {ConfigKey::kNumKeyValueHeads, "attention.head_count_kv"},
    {ConfigKey::kHeadDim, "attention.key_length"},
    {ConfigKey::kValueHeadDim, "attention.value_length"},
    {ConfigKey::kNumExperts, "expert_count"},
    {ConfigKey::kNumExpertsPerTok, "expert_used_count"},
    {ConfigKey::kMoeIntermediateSize, "expert_feed_forward_length"},
    {ConfigKey::kMaxPositionEmbeddings, "context_length"},
    {ConfigKey::kRmsNormEps, "attention.layer_norm_rms_epsilon"},
    {ConfigKey::kRopeTheta, "rope.freq_base"},
    {ConfigKey::kVocabSize, "vocab_size"},
    {ConfigKey::kNormTopkProb, "expert_weights_norm"},
    {ConfigKey::kIntermediateSize, "feed_forward_length"},
    {ConfigKey::kRopeScalingType, "rope.scaling.type"},
    {ConfigKey::kRopeDimensionCount, "rope.dimension_count"},
    {ConfigKey::kExpertGatingFunc, "expert_gating_func"},
}};

struct TensorName {
  TensorRole role;
  std::string_view name;
  bool per_layer;
};
constexpr std::array<TensorName, 15> kTensorNames = {{
    {TensorRole::kEmbedTokens, "token_embd", false},
    {TensorRole::kNorm, "output_norm", false},
    {TensorRole::kLmHead, "output", false},
    {TensorRole::kInputLayernorm, "attn_norm", true},
    {TensorRole::kQProj, "attn_q", true},
    {TensorRole::kKProj, "attn_k", true},
    {TensorRole::kVProj, "attn_v", true},
    {TensorRole::kOProj, "attn_output", true},
    {TensorRole::kQNorm, "attn_q_norm", true},
    {TensorRole::kKNorm, "attn_k_norm", true},
    {TensorRole::kPostAttentionLayernorm, "ffn_norm", true},
    {TensorRole::kRouter, "ffn_gate_inp", true},
    {TensorRole::kGateProj, "ffn_gate_exps", true},
    {TensorRole::kUpProj, "ffn_up_exps", true},
    {TensorRole::kDownProj, "ffn_down_exps", true},
}};

}  // namespace

std::string gguf_key(ConfigKey key) {
  const auto index = static_cast<std::size_t>(key);
  CHECK(index < kKeyNames.size() && kKeyNames[index].key == key);
  return std::string(kArchitecture) + "." + std::string(kKeyNames[index].name);
}

bool is_architecture_key(std::string_view key) {
  return key.starts_with(kArchitecture) && key.substr(kArchitecture.size()).starts_with('.');
}

bool is_config_key(std::string_view key) {
  if (!is_architecture_key(key)) return false;
  const std::string_view name = key.substr(kArchitecture.size() + 1);
  return std::ranges::find(kKeyNames, name, &KeyName::name) != kKeyNames.end();
}

std::string gguf_tensor_name(TensorRole role, std::size_t layer) {
  const auto index = static_cast<std::size_t>(role);
  CHECK(index < kTensorNames.size() && kTensorNames[index].role == role);
  const TensorName& entry = kTensorNames[index];
  const std::string prefix = entry.per_layer ? "blk." + std::to_string(layer) + "." : "";
  return prefix + std::string(entry.name) + ".weight";
}

}  // namespace refute
