// Shapes and type mixes for synthetic models, by name.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "engine/synth.h"
#include "kernels/result.h"

namespace refute {

struct SynthPreset {
  std::string_view name;
  std::string_view description;  // For people, one line.
};

// qwen3-30b-a3b has the shape of the first release of Qwen3-30B-A3B (rope_theta 1e6, 40960
// positions; the 2507 releases have 1e7 and 262144) in the Q4_K_M mix; nano, tiny, gqa and mixed
// have the shapes and types of the oracle packs of these names.
std::span<const SynthPreset> synth_presets();

// `num_layers` cuts the preset off after as many layers, which keep the types that they have in the
// full model, or extends it: a Q4_K_M mix then follows the longer model's rule, any other repeats
// its last layer. kUnsupported lists the names when there is no such preset.
Result<SynthOptions> synth_preset(std::string_view name,
                                  std::optional<std::size_t> num_layers = std::nullopt);

// The public quantizer's Q4_K_M mix for a model of `num_layers`: everything Q4_K but v_proj and
// down_proj, which are Q6_K in the first and last eighth of the layers and every third between.
std::vector<SynthLayerTypes> q4_k_m_layers(std::size_t num_layers);

}  // namespace refute
