#include "engine/model_config.h"

#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/gguf_format.h"
#include "engine/gguf_names.h"
#include "kernels/faults.h"

namespace refute {
namespace {

// Far above any model, and far below where products of two sizes would leave 64 bits.
constexpr std::size_t kMaxSize = std::size_t{1} << 24;
// Token ids and positions are int32.
constexpr std::size_t kMaxIndex = std::numeric_limits<std::int32_t>::max();

struct SizeField {
  std::size_t Config::*member;
  ConfigKey key;
  std::string_view name;
  std::size_t maximum;
};
constexpr std::array<SizeField, 9> kSizeFields = {{
    {&Config::hidden_size, ConfigKey::kHiddenSize, "hidden_size", kMaxSize},
    {&Config::num_hidden_layers, ConfigKey::kNumHiddenLayers, "num_hidden_layers", 1 << 16},
    {&Config::num_attention_heads, ConfigKey::kNumAttentionHeads, "num_attention_heads", kMaxSize},
    {&Config::num_key_value_heads, ConfigKey::kNumKeyValueHeads, "num_key_value_heads", kMaxSize},
    {&Config::head_dim, ConfigKey::kHeadDim, "head_dim", kMaxSize},
    {&Config::num_experts, ConfigKey::kNumExperts, "num_experts", kMaxSize},
    {&Config::num_experts_per_tok, ConfigKey::kNumExpertsPerTok, "num_experts_per_tok", kMaxSize},
    {&Config::moe_intermediate_size, ConfigKey::kMoeIntermediateSize, "moe_intermediate_size",
     kMaxSize},
    {&Config::max_position_embeddings, ConfigKey::kMaxPositionEmbeddings, "max_position_embeddings",
     kMaxIndex},
}};

// "nano.gguf: hidden_size (qwen3moe.embedding_length)"
std::string field_place(const std::string& where, std::string_view name, ConfigKey key) {
  return where + ": " + std::string(name) + " (" + gguf_key(key) + ")";
}

Error malformed(std::string where, std::string expected, std::string found) {
  return {ErrorKind::kMalformed, std::move(where), std::move(expected), std::move(found)};
}

Result<void> check_size(const std::string& place, std::size_t value, std::size_t maximum) {
  if (value >= 1 && value <= maximum) return {};
  return malformed(place, "1 to " + std::to_string(maximum), std::to_string(value));
}

Result<void> check_float(const std::string& place, double value) {
  if (std::isfinite(value) && value > 0.0) return {};
  return malformed(place, "a finite number above 0", std::to_string(value));
}

// Unknown keys of the architecture could change what the model computes.
Result<void> check_known_keys(const GgufFile& file) {
  for (const auto& [key, value] : file.metadata()) {
    if (is_architecture_key(key) && !is_config_key(key)) {
      return Error{ErrorKind::kUnsupported, file.path().string(),
                   "only keys of " + std::string(kArchitecture) + " that are implemented",
                   quoted_name(key)};
    }
  }
  return {};
}

Result<void> check_architecture(const GgufFile& file) {
  const Result<std::string> architecture = file.required_string(gguf_keys::kArchitecture);
  if (!architecture) return architecture.error();
  if (*architecture != kArchitecture) {
    return file.key_error(ErrorKind::kUnsupported, gguf_keys::kArchitecture,
                          std::string(kArchitecture), quoted_name(*architecture));
  }
  if (file.find_value(gguf_keys::kSplitCount) == nullptr) return {};
  const Result<std::uint64_t> parts = file.required_unsigned(gguf_keys::kSplitCount);
  if (!parts) return parts.error();
  if (*parts > 1) {
    return file.key_error(ErrorKind::kUnsupported, gguf_keys::kSplitCount, "a model in one file",
                          std::to_string(*parts) + " files");
  }
  return {};
}

// Where `key` is present, it must be `expected`.
Result<void> check_optional_unsigned(const GgufFile& file, std::string_view key, ErrorKind kind,
                                     std::uint64_t expected, std::string_view because) {
  if (file.find_value(key) == nullptr) return {};
  const Result<std::uint64_t> value = file.required_unsigned(key);
  if (!value) return value.error();
  if (*value == expected) return {};
  return file.key_error(kind, key, std::to_string(expected) + " (" + std::string(because) + ")",
                        std::to_string(*value));
}

Result<void> check_rope_scaling(const GgufFile& file) {
  const std::string key = gguf_key(ConfigKey::kRopeScalingType);
  if (file.find_value(key) == nullptr) return {};
  const Result<std::string> type = file.required_string(key);
  if (!type) return type.error();
  if (*type == "none") return {};
  return file.key_error(ErrorKind::kUnsupported, key, "none", quoted_name(*type));
}

Result<void> check_options(const GgufFile& file, const Config& config) {
  const Result<std::uint64_t> value_length =
      file.required_unsigned(gguf_key(ConfigKey::kValueHeadDim));
  if (!value_length) return value_length.error();
  struct Option {
    ConfigKey key;
    std::uint64_t expected;
    std::string_view because;
  };
  const std::array<Option, 3> options = {{
      {ConfigKey::kValueHeadDim, config.head_dim, "the length of keys"},
      {ConfigKey::kRopeDimensionCount, config.head_dim, "the whole head"},
      {ConfigKey::kExpertGatingFunc, 1, "softmax"},
  }};
  for (const Option& option : options) {
    const Result<void> checked = check_optional_unsigned(
        file, gguf_key(option.key), ErrorKind::kUnsupported, option.expected, option.because);
    if (!checked) return checked.error();
  }
  return check_rope_scaling(file);
}

// A key that must be there; where F103 is seeded, `fallback` stands in for it.
Result<double> read_float(const GgufFile& file, ConfigKey key, [[maybe_unused]] double fallback) {
  const bool missing = file.find_value(gguf_key(key)) == nullptr;
  if (missing && fault_seeded("F103", FaultHost::kOracle)) return fallback;
  if (missing && fault_seeded("F103", FaultHost::kCpu)) return fallback;
  if (missing && fault_seeded("F103", FaultHost::kCuda)) return fallback;
  return file.required_float(gguf_key(key));
}

// The rows of embed_tokens, which the key and the tokenizer must confirm where they are present.
Result<std::size_t> read_vocab_size(const GgufFile& file) {
  const std::string name = gguf_tensor_name(TensorRole::kEmbedTokens);
  const GgufTensor* const embed_tokens = file.find_tensor(name);
  if (embed_tokens == nullptr || embed_tokens->shape.size() != 2) {
    return malformed(file.path().string() + ": tensor " + quoted_name(name),
                     "shape [vocab_size, hidden_size]",
                     embed_tokens == nullptr ? "no such tensor" : embed_tokens->shape_text());
  }
  const std::size_t vocab_size = embed_tokens->shape[0];
  const Result<void> checked =
      check_optional_unsigned(file, gguf_key(ConfigKey::kVocabSize), ErrorKind::kMalformed,
                              vocab_size, "the rows of " + name);
  if (!checked) return checked.error();

  const GgufValue* const tokens = file.find_value(gguf_keys::kTokens);
  const auto* const texts =
      tokens == nullptr ? nullptr : std::get_if<std::vector<std::string>>(tokens);
  if (texts != nullptr && texts->size() != vocab_size) {
    return file.key_error(ErrorKind::kMalformed, gguf_keys::kTokens,
                          std::to_string(vocab_size) + " tokens (the rows of " + name + ")",
                          std::to_string(texts->size()));
  }
  return vocab_size;
}

}  // namespace

Result<Config> read_config(const GgufFile& file) {
  Result<void> checked = check_architecture(file);
  if (!checked) return checked.error();
  Config config;
  for (const SizeField& field : kSizeFields) {
    const Result<std::uint64_t> value = file.required_unsigned(gguf_key(field.key));
    if (!value) return value.error();
    config.*field.member = *value;
  }
  const Result<double> eps = read_float(file, ConfigKey::kRmsNormEps, 1e-6);
  if (!eps) return eps.error();
  config.rms_norm_eps = static_cast<float>(*eps);
  const Result<double> theta = read_float(file, ConfigKey::kRopeTheta, 1e4);
  if (!theta) return theta.error();
  config.rope_theta = *theta;
  const std::string norm_key = gguf_key(ConfigKey::kNormTopkProb);
  if (file.find_value(norm_key) != nullptr) {
    const Result<bool> norm_topk_prob = file.required_bool(norm_key);
    if (!norm_topk_prob) return norm_topk_prob.error();
    config.norm_topk_prob = *norm_topk_prob;
  }
  checked = check_options(file, config);
  if (!checked) return checked.error();
  checked = check_known_keys(file);
  if (!checked) return checked.error();
  const Result<std::size_t> vocab_size = read_vocab_size(file);
  if (!vocab_size) return vocab_size.error();
  config.vocab_size = *vocab_size;
  config.tie_word_embeddings = file.find_tensor(gguf_tensor_name(TensorRole::kLmHead)) == nullptr;
  checked = check_config(config, file.path().string());
  if (!checked) return checked.error();
  return config;
}

Result<void> check_config(const Config& config, const std::string& where) {
  for (const SizeField& field : kSizeFields) {
    const Result<void> checked =
        check_size(field_place(where, field.name, field.key), config.*field.member, field.maximum);
    if (!checked) return checked.error();
  }
  const auto place = [&](std::string_view name, ConfigKey key) {
    return field_place(where, name, key);
  };
  Result<void> checked =
      check_size(place("vocab_size", ConfigKey::kVocabSize), config.vocab_size, kMaxIndex);
  if (!checked) return checked.error();
  checked = check_float(place("rms_norm_eps", ConfigKey::kRmsNormEps), config.rms_norm_eps);
  if (!checked) return checked.error();
  checked = check_float(place("rope_theta", ConfigKey::kRopeTheta), config.rope_theta);
  if (!checked) return checked.error();

  if (config.num_attention_heads % config.num_key_value_heads != 0) {
    return malformed(
        place("num_attention_heads", ConfigKey::kNumAttentionHeads),
        "a multiple of the " + std::to_string(config.num_key_value_heads) + " key-value heads",
        std::to_string(config.num_attention_heads));
  }
  if (config.head_dim % 2 != 0) {
    return malformed(place("head_dim", ConfigKey::kHeadDim), "an even number",
                     std::to_string(config.head_dim));
  }
  if (config.num_experts_per_tok > config.num_experts) {
    return malformed(place("num_experts_per_tok", ConfigKey::kNumExpertsPerTok),
                     "at most the " + std::to_string(config.num_experts) + " experts",
                     std::to_string(config.num_experts_per_tok));
  }
  return {};
}

}  // namespace refute
