#include "falsifiers/synthetic_model.h"

#include <algorithm>
#include <string>
#include <utility>

#include "engine/gguf.h"
#include "engine/memory_file.h"
#include "falsifiers/owned_weights.h"
#include "kernels/check.h"

namespace refute {
namespace {

SynthOptions narrow_options() {
  SynthOptions options;
  options.name = "narrow";
  Config& config = options.config;
  config.hidden_size = 64;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 24;
  config.num_experts = 16;
  config.num_experts_per_tok = 8;
  config.moe_intermediate_size = 32;
  config.vocab_size = 40;
  config.max_position_embeddings = 160;
  config.rms_norm_eps = 3e-6f;
  config.rope_theta = 50000.0;
  options.embed_tokens = TensorType::kQ8_0;
  options.lm_head = TensorType::kQ8_0;
  SynthLayerTypes first;
  first.q_proj = TensorType::kQ8_0;
  first.k_proj = TensorType::kF16;
  first.v_proj = TensorType::kBF16;
  first.o_proj = TensorType::kQ8_0;
  first.gate_proj = TensorType::kQ8_0;
  first.up_proj = TensorType::kF16;
  first.down_proj = TensorType::kQ8_0;
  SynthLayerTypes second;
  second.q_proj = TensorType::kF32;
  second.k_proj = TensorType::kQ8_0;
  second.v_proj = TensorType::kQ8_0;
  second.o_proj = TensorType::kF16;
  second.router = TensorType::kQ8_0;
  second.gate_proj = TensorType::kBF16;
  second.up_proj = TensorType::kQ8_0;
  second.down_proj = TensorType::kF32;
  options.layers = {first, second};
  return options;
}

SynthOptions wide_options() {
  SynthOptions options;
  options.name = "wide";
  Config& config = options.config;
  config.hidden_size = 512;
  config.num_hidden_layers = 1;
  config.num_attention_heads = 3;
  config.num_key_value_heads = 1;
  config.head_dim = 64;
  config.num_experts = 3;
  config.num_experts_per_tok = 2;
  config.moe_intermediate_size = 256;
  config.vocab_size = 48;
  config.max_position_embeddings = 64;
  config.rms_norm_eps = 1e-5f;
  config.rope_theta = 1e6;
  config.norm_topk_prob = false;
  options.embed_tokens = TensorType::kQ6_K;
  options.lm_head = TensorType::kQ4_K;
  SynthLayerTypes types;
  types.q_proj = TensorType::kQ4_K;
  types.k_proj = TensorType::kQ6_K;
  types.v_proj = TensorType::kQ5_K;
  types.o_proj = TensorType::kQ8_0;  // 192 columns hold no super-block.
  types.gate_proj = TensorType::kQ4_K;
  types.up_proj = TensorType::kQ5_K;
  types.down_proj = TensorType::kQ4_K;
  options.layers = {types};
  return options;
}

}  // namespace

SynthOptions synthetic_options(SyntheticShape shape, std::uint64_t seed) {
  SynthOptions options = shape == SyntheticShape::kNarrow ? narrow_options() : wide_options();
  options.seed = seed;
  options.tokenizer = SynthTokenizer::kNone;
  options.num_threads = 1;
  return options;
}

Result<SyntheticFile> SyntheticFile::make(const SynthOptions& options) {
  auto file = MemoryFile::create("synthetic model", {});
  if (!file) return file.error();
  if (auto done = write_synthetic_model(options, file->path()); !done) return done.error();
  const auto written = MappedFile::open(file->path());
  if (!written) return written.error();
  return SyntheticFile({written->bytes().begin(), written->bytes().end()});
}

Result<SyntheticFile> SyntheticFile::with_tensor(TensorRole role, std::size_t layer,
                                                 const TensorChange& change) const {
  const auto memory = MemoryFile::create("synthetic model", bytes_);
  if (!memory) return memory.error();
  const auto file = GgufFile::open(memory->path());
  if (!file) return file.error();
  const GgufTensor* tensor = file->find_tensor(gguf_tensor_name(role, layer));
  CHECK(tensor != nullptr);
  const auto offset = static_cast<std::size_t>(tensor->data.data() - file->bytes().data());
  SyntheticFile changed(bytes_);
  change(tensor->type, std::span(changed.bytes_).subspan(offset, tensor->data.size()));
  return changed;
}

Result<SyntheticFile> SyntheticFile::without_key(std::string_view key) const {
  SyntheticFile changed(bytes_);
  const auto as_byte = [](char c) { return static_cast<std::byte>(c); };
  // Keys are stored behind their length, so that no key is found inside of a longer one.
  std::string stored(sizeof(std::uint64_t), '\0');
  stored[0] = static_cast<char>(key.size());
  stored += key;
  const auto found = std::ranges::search(changed.bytes_, stored, {}, {}, as_byte);
  if (found.empty()) {
    return Error{ErrorKind::kMissingKey, "synthetic model", std::string(key), "no such key"};
  }
  found.begin()[sizeof(std::uint64_t)] = std::byte{'x'};
  return changed;
}

Result<Model> SyntheticFile::load() const {
  const auto memory = MemoryFile::create("synthetic model", bytes_);
  if (!memory) return memory.error();
  return Model::load(memory->path(), 1);
}

SyntheticFile::TensorChange multiplied_by(float factor) {
  return [factor](TensorType type, std::span<std::byte> bytes) {
    multiply_scales(type, bytes, factor);
  };
}

SyntheticFile::TensorChange set_to_zero() {
  return [](TensorType, std::span<std::byte> bytes) { std::ranges::fill(bytes, std::byte{0}); };
}

}  // namespace refute
