// The tensors that a Qwen3-MoE model consists of: what a loader expects and a synthetic model has.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "engine/config.h"
#include "engine/gguf_names.h"

namespace refute {

// Outermost dimension first: [rows, columns], [num_experts, rows, columns] or [elements].
std::vector<std::size_t> tensor_shape(const Config& config, TensorRole role);

// Norm weights are vectors of floating-point values, everything else is a matrix of any weight
// type.
bool is_norm(TensorRole role);

struct TensorPlace {
  TensorRole role;
  std::size_t layer;  // 0 outside of layers.

  std::string name() const { return gguf_tensor_name(role, layer); }
};

// In the order in which files list them; without an lm_head where it is embed_tokens.
std::vector<TensorPlace> model_tensors(const Config& config);

}  // namespace refute
