#include "engine/synth_presets.h"

#include <algorithm>
#include <array>
#include <string>

#include "engine/gguf_format.h"

namespace refute {
namespace {

constexpr std::array<SynthPreset, 5> kPresets = {{
    {"qwen3-30b-a3b", "48 layers, hidden 2048, 128 experts top-8, Q4_K_M; 17.3 GiB"},
    {"nano", "2 layers, hidden 256, 4 experts top-2, vocabulary 256; 1.4 MB"},
    {"tiny", "3 layers, hidden 256, 8 experts top-2, vocabulary 512"},
    {"gqa", "2 layers, hidden 512, 8 heads on one key-value head, 16 experts top-4"},
    {"mixed", "2 layers, hidden 256, 6 experts top-3, Q8_0, Q5_K, F16, BF16 and F32"},
}};

// What the small presets share.
Config small_config() {
  Config config;
  config.hidden_size = 256;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 64;
  config.moe_intermediate_size = 256;
  config.vocab_size = 512;
  config.max_position_embeddings = 512;
  config.rms_norm_eps = 1e-6f;
  config.rope_theta = 1e6;
  return config;
}

// Types of nano, tiny and gqa: Q6_K wherever the Q4_K_M mix has some.
std::vector<SynthLayerTypes> small_layers(std::size_t num_layers) {
  SynthLayerTypes layer;
  layer.v_proj = TensorType::kQ6_K;
  layer.down_proj = TensorType::kQ6_K;
  return std::vector<SynthLayerTypes>(num_layers, layer);
}

SynthOptions qwen3_30b_a3b() {
  SynthOptions options;
  Config& config = options.config;
  config.hidden_size = 2048;
  config.num_attention_heads = 32;
  config.num_key_value_heads = 4;
  config.head_dim = 128;
  config.num_experts = 128;
  config.num_experts_per_tok = 8;
  config.moe_intermediate_size = 768;
  config.vocab_size = 151936;
  config.max_position_embeddings = 40960;
  config.rms_norm_eps = 1e-6f;
  config.rope_theta = 1e6;
  options.layers = q4_k_m_layers(48);
  return options;
}

SynthOptions nano() {
  SynthOptions options;
  options.config = small_config();
  options.config.num_experts = 4;
  options.config.num_experts_per_tok = 2;
  options.config.vocab_size = 256;
  options.layers = small_layers(2);
  return options;
}

SynthOptions tiny() {
  SynthOptions options;
  options.config = small_config();
  options.config.num_experts = 8;
  options.config.num_experts_per_tok = 2;
  options.layers = small_layers(3);
  return options;
}

SynthOptions gqa() {
  SynthOptions options;
  options.config = small_config();
  options.config.hidden_size = 512;
  options.config.num_attention_heads = 8;
  options.config.num_key_value_heads = 1;
  options.config.num_experts = 16;
  options.config.num_experts_per_tok = 4;
  options.layers = small_layers(2);
  return options;
}

SynthOptions mixed() {
  SynthOptions options;
  options.config = small_config();
  options.config.num_attention_heads = 2;
  options.config.head_dim = 128;
  options.config.num_experts = 6;
  options.config.num_experts_per_tok = 3;
  options.config.vocab_size = 300;
  options.embed_tokens = TensorType::kBF16;
  options.lm_head = TensorType::kF32;
  SynthLayerTypes layer;
  layer.q_proj = layer.k_proj = layer.o_proj = layer.down_proj = TensorType::kQ8_0;
  layer.v_proj = TensorType::kF16;
  layer.gate_proj = layer.up_proj = TensorType::kQ5_K;
  options.layers.assign(2, layer);
  return options;
}

std::string preset_names() {
  std::string names;
  for (const SynthPreset& preset : kPresets) {
    if (!names.empty()) names += ", ";
    names += preset.name;
  }
  return names;
}

}  // namespace

std::span<const SynthPreset> synth_presets() { return kPresets; }

Result<SynthOptions> synth_preset(std::string_view name, std::optional<std::size_t> num_layers) {
  constexpr std::array<SynthOptions (*)(), kPresets.size()> kMakers = {qwen3_30b_a3b, nano, tiny,
                                                                       gqa, mixed};
  const auto preset = std::ranges::find(kPresets, name, &SynthPreset::name);
  if (preset == kPresets.end()) {
    return Error{ErrorKind::kUnsupported, "synthetic preset", "one of " + preset_names(),
                 quoted_name(name)};
  }
  SynthOptions options = kMakers[static_cast<std::size_t>(preset - kPresets.begin())]();
  options.name = name;
  const std::size_t full = options.layers.size();
  const std::size_t wanted = num_layers.value_or(full);
  if (wanted > full && name == "qwen3-30b-a3b") {
    options.layers = q4_k_m_layers(wanted);
  } else {
    options.layers.resize(wanted, SynthLayerTypes(options.layers.back()));
  }
  options.config.num_hidden_layers = wanted;
  return options;
}

std::vector<SynthLayerTypes> q4_k_m_layers(std::size_t num_layers) {
  std::vector<SynthLayerTypes> layers(num_layers);
  const std::size_t eighth = num_layers / 8;
  for (std::size_t i = 0; i < num_layers; ++i) {
    const bool more_bits = i < eighth || i >= 7 * num_layers / 8 || (i - eighth) % 3 == 2;
    if (!more_bits) continue;
    layers[i].v_proj = TensorType::kQ6_K;
    layers[i].down_proj = TensorType::kQ6_K;
  }
  return layers;
}

}  // namespace refute
