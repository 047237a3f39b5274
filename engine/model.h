// A loaded model: its configuration and borrowed views of its weights.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/config.h"
#include "engine/tokenizer.h"
#include "engine/weight_scan.h"
#include "kernels/quant/dequantize.h"
#include "kernels/result.h"
#include "kernels/rope.h"

namespace refute {

class GgufFile;  // engine/gguf.h

// The same matrix for every expert, one after the other: [num_experts, rows, columns] as stored.
struct ExpertStack {
  TensorType type = TensorType::kF32;
  std::size_t num_experts = 0;
  std::size_t rows = 0;
  std::size_t columns = 0;
  std::span<const std::byte> data;

  std::size_t bytes_per_expert() const { return rows * row_bytes(type, columns); }
  // By expert_byte_slice (engine/forward.h), which must succeed.
  WeightView expert(std::size_t expert) const;
};

struct LayerWeights {
  std::vector<float> input_layernorm;           // [hidden_size]
  WeightView q_proj;                            // [num_attention_heads * head_dim, hidden_size]
  WeightView k_proj;                            // [num_key_value_heads * head_dim, hidden_size]
  WeightView v_proj;                            // [num_key_value_heads * head_dim, hidden_size]
  WeightView o_proj;                            // [hidden_size, num_attention_heads * head_dim]
  std::vector<float> q_norm;                    // [head_dim]
  std::vector<float> k_norm;                    // [head_dim]
  std::vector<float> post_attention_layernorm;  // [hidden_size]
  WeightView router;                            // [num_experts, hidden_size]
  ExpertStack gate_proj;                        // [num_experts, moe_intermediate_size, hidden_size]
  ExpertStack up_proj;                          // [num_experts, moe_intermediate_size, hidden_size]
  ExpertStack down_proj;                        // [num_experts, hidden_size, moe_intermediate_size]
};

// When the scales of a model are looked at, which takes reading all of its file.
enum class ScaleCheck {
  kWhenLoaded,
  kWhenOpened,  // By the first session of the CPU backend, which reads the file anyway.
};

class Model {
 public:
  // Maps the file and checks everything: metadata (kMissingKey names the key, see model_config.h),
  // every tensor's presence, type, shape and byte count (kMalformed, kUnsupported, kInvalidShape
  // name tensor, expected and found), no tensor that would be left out (kUnsupported), every scale
  // finite (kNonFinite names tensor, expert and row). num_threads 0 takes the number of processors.
  // With kWhenOpened, whoever wants anything of the weights opens a session of the CPU backend
  // first, which may fail with kNonFinite.
  static Result<Model> load(const std::filesystem::path& path, std::size_t num_threads = 0,
                            ScaleCheck check = ScaleCheck::kWhenLoaded);

  Model(Model&&) noexcept;
  Model& operator=(Model&&) noexcept;
  ~Model();

  const Config& config() const { return config_; }
  const std::string& name() const { return name_; }  // general.name, else the file's stem.
  const std::filesystem::path& path() const { return path_; }
  // A number that no other load in this process has: what device copies of the weights go by.
  std::uint64_t identity() const { return identity_; }
  const WeightView& embed_tokens() const { return embed_tokens_; }  // [vocab_size, hidden_size]
  const std::vector<LayerWeights>& layers() const { return layers_; }
  const std::vector<float>& norm() const { return norm_; }  // [hidden_size]
  const WeightView& lm_head() const { return lm_head_; }    // [vocab_size, hidden_size]
  // The file's bytes of weights, and of the whole file.
  std::size_t weight_bytes() const { return weight_bytes_; }
  std::span<const std::byte> file_bytes() const;
  ScaleCheck scale_check() const { return scale_check_; }
  // check_scales of all matrices (engine/weight_scan.h).
  Result<void> check_scales(std::size_t num_threads, const RowsScanned& scanned = {}) const;
  // What the file says of its tokenizer; empty when it has none.
  const std::optional<TokenizerData>& tokenizer_data() const { return tokenizer_data_; }

  // Forgets the layers from `num_layers` on: a shallower model of the same weights, to see what a
  // layer costs. Precondition: 1 <= num_layers <= num_hidden_layers, and no session is open.
  void keep_layers(std::size_t num_layers);

  // Weights that one decoded token reads, in bytes: everything but unselected experts and
  // embed_tokens (one row of it).
  std::size_t bytes_per_token() const;

 private:
  Model();

  std::uint64_t identity_;
  std::unique_ptr<GgufFile> file_;
  Config config_;
  std::string name_;
  std::filesystem::path path_;
  WeightView embed_tokens_;
  std::vector<LayerWeights> layers_;
  std::vector<float> norm_;
  WeightView lm_head_;
  std::size_t weight_bytes_ = 0;
  ScaleCheck scale_check_ = ScaleCheck::kWhenLoaded;
  std::vector<ScannedTensor> matrices_;
  std::optional<TokenizerData> tokenizer_data_;
};

}  // namespace refute
