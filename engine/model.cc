#include "engine/model.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <utility>

#include "engine/forward.h"
#include "engine/gguf.h"
#include "engine/model_config.h"
#include "engine/model_weights.h"
#include "engine/tokenizer_metadata.h"
#include "kernels/check.h"

namespace refute {
namespace {

LayerWeights find_layer(WeightFinder& weights, std::size_t layer) {
  LayerWeights found;
  found.input_layernorm = weights.norm(TensorRole::kInputLayernorm, layer);
  found.q_proj = weights.matrix(TensorRole::kQProj, layer);
  found.k_proj = weights.matrix(TensorRole::kKProj, layer);
  found.v_proj = weights.matrix(TensorRole::kVProj, layer);
  found.o_proj = weights.matrix(TensorRole::kOProj, layer);
  found.q_norm = weights.norm(TensorRole::kQNorm, layer);
  found.k_norm = weights.norm(TensorRole::kKNorm, layer);
  found.post_attention_layernorm = weights.norm(TensorRole::kPostAttentionLayernorm, layer);
  found.router = weights.matrix(TensorRole::kRouter, layer);
  found.gate_proj = weights.experts(TensorRole::kGateProj, layer);
  found.up_proj = weights.experts(TensorRole::kUpProj, layer);
  found.down_proj = weights.experts(TensorRole::kDownProj, layer);
  return found;
}

// State of the process, but only a source of distinct numbers.
std::uint64_t next_identity() {
  static std::atomic<std::uint64_t> next = 1;
  return next.fetch_add(1);
}

Result<std::string> read_name(const GgufFile& file) {
  if (file.find_value(gguf_keys::kName) == nullptr) return file.path().stem().string();
  return file.required_string(gguf_keys::kName);
}

std::size_t norm_bytes(const std::vector<float>& norm) { return norm.size() * sizeof(float); }

std::size_t layer_bytes_per_token(const LayerWeights& layer, std::size_t num_experts_per_tok) {
  std::size_t bytes = norm_bytes(layer.input_layernorm) + norm_bytes(layer.q_norm) +
                      norm_bytes(layer.k_norm) + norm_bytes(layer.post_attention_layernorm);
  for (const WeightView* matrix :
       {&layer.q_proj, &layer.k_proj, &layer.v_proj, &layer.o_proj, &layer.router}) {
    bytes += matrix->bytes();
  }
  for (const ExpertStack* stack : {&layer.gate_proj, &layer.up_proj, &layer.down_proj}) {
    bytes += num_experts_per_tok * stack->bytes_per_expert();
  }
  return bytes;
}

}  // namespace

WeightView ExpertStack::expert(std::size_t expert) const {
  const auto bytes = expert_byte_slice(*this, expert);
  CHECK(bytes);
  return {type, rows, columns, bytes->data()};
}

Model::Model() : identity_(next_identity()) {}
Model::Model(Model&&) noexcept = default;
Model& Model::operator=(Model&&) noexcept = default;
Model::~Model() = default;

Result<Model> Model::load(const std::filesystem::path& path, std::size_t num_threads,
                          ScaleCheck check) {
  Result<GgufFile> file = GgufFile::open(path);
  if (!file) return file.error();
  Model model;
  model.path_ = path;
  model.file_ = std::make_unique<GgufFile>(std::move(*file));
  Result<Config> config = read_config(*model.file_);
  if (!config) return config.error();
  model.config_ = *config;
  Result<std::string> name = read_name(*model.file_);
  if (!name) return name.error();
  model.name_ = std::move(*name);
  Result<std::optional<TokenizerData>> tokenizer = read_tokenizer_data(*model.file_);
  if (!tokenizer) return tokenizer.error();
  model.tokenizer_data_ = std::move(*tokenizer);

  WeightFinder weights(*model.file_, model.config_);
  model.embed_tokens_ = weights.matrix(TensorRole::kEmbedTokens);
  for (std::size_t layer = 0; layer < config->num_hidden_layers && !weights.error(); ++layer) {
    model.layers_.push_back(find_layer(weights, layer));
  }
  model.norm_ = weights.norm(TensorRole::kNorm);
  model.lm_head_ =
      config->tie_word_embeddings ? model.embed_tokens_ : weights.matrix(TensorRole::kLmHead);
  if (weights.error()) return *weights.error();
  const Result<void> nothing_left = weights.check_nothing_left();
  if (!nothing_left) return nothing_left.error();
  model.weight_bytes_ = weights.bytes();

  model.matrices_ = weights.matrices();
  model.scale_check_ = check;
  if (check == ScaleCheck::kWhenOpened) return model;
  if (num_threads == 0) num_threads = std::max(1u, std::thread::hardware_concurrency());
  const Result<void> finite = model.check_scales(num_threads);
  if (!finite) return finite.error();
  return model;
}

Result<void> Model::check_scales(std::size_t num_threads, const RowsScanned& scanned) const {
  return refute::check_scales(path_.string(), file_->bytes(), matrices_, num_threads, scanned);
}

std::span<const std::byte> Model::file_bytes() const { return file_->bytes(); }

void Model::keep_layers(std::size_t num_layers) {
  CHECK(num_layers >= 1 && num_layers <= layers_.size());
  layers_.resize(num_layers);
  config_.num_hidden_layers = num_layers;
}

std::size_t Model::bytes_per_token() const {
  std::size_t bytes = embed_tokens_.bytes_per_row() + norm_bytes(norm_) + lm_head_.bytes();
  for (const LayerWeights& layer : layers_) {
    bytes += layer_bytes_per_token(layer, config_.num_experts_per_tok);
  }
  return bytes;
}

}  // namespace refute
