// Synthetic models: valid Qwen3-MoE files of any shape and type mix with random weights whose
// activations stay in a healthy range. For tests and measurements where no trained model is at
// hand.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/config.h"
#include "engine/model_layout.h"
#include "kernels/quant/tensor_type.h"
#include "kernels/result.h"

namespace refute {

struct SynthLayerTypes {
  TensorType q_proj = TensorType::kQ4_K;
  TensorType k_proj = TensorType::kQ4_K;
  TensorType v_proj = TensorType::kQ4_K;
  TensorType o_proj = TensorType::kQ4_K;
  TensorType router = TensorType::kF32;
  TensorType gate_proj = TensorType::kQ4_K;
  TensorType up_proj = TensorType::kQ4_K;
  TensorType down_proj = TensorType::kQ4_K;
};

// kBytes: a byte-level vocabulary without learned merges: token b is byte b, then (where there is
// room) two spaces as one token, fillers "<257>" ..., and an end-of-text token last. A vocabulary
// below 256 has only fillers, "<0>" ...
enum class SynthTokenizer { kNone, kBytes };

struct SynthOptions {
  std::string name;  // general.name
  Config config;     // rope_theta and rms_norm_eps are stored as float32.
  TensorType embed_tokens = TensorType::kQ4_K;
  TensorType lm_head = TensorType::kQ6_K;  // Unused when the config ties it to embed_tokens.
  TensorType norms = TensorType::kF32;     // All norm weights: F32, F16 or BF16.
  std::vector<SynthLayerTypes> layers;     // [num_hidden_layers]
  std::uint64_t seed = 1;
  SynthTokenizer tokenizer = SynthTokenizer::kBytes;
  std::size_t num_threads = 0;  // 0 takes the number of processors.
};

// Called as tensor data reaches the file; both in bytes of tensors, without padding.
using SynthProgress = std::function<void(std::size_t written, std::size_t total)>;

// Writes the model to `path`, replacing what is there, in a few MiB of memory whatever its size.
// The same options give the same bytes on every machine and with any number of threads; a weight
// depends on the seed, its tensor's name, shape and type only. kMalformed for a config that no file
// may have, kInvalidShape when columns are no multiple of their type's block or `layers` has the
// wrong length, kUnsupported for a type that cannot hold weights, kUnreadable when writing fails.
Result<void> write_synthetic_model(const SynthOptions& options, const std::filesystem::path& path,
                                   const SynthProgress& progress = {});

// The type of one tensor.
TensorType synth_type(const SynthOptions& options, TensorPlace place);

// Sets the type of "embed_tokens", "lm_head", "norms", of one weight in all layers ("down_proj",
// "router") or in one ("3.down_proj"). kUnsupported lists the names when `weight` is none of them.
Result<void> set_synth_type(SynthOptions& options, std::string_view weight, TensorType type);

}  // namespace refute
