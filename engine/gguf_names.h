// The one place where GGUF's names meet ours: metadata keys and tensor names of `qwen3moe`.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace refute {

inline constexpr std::string_view kArchitecture = "qwen3moe";

// Metadata keys of all architectures.
namespace gguf_keys {
inline constexpr std::string_view kArchitecture = "general.architecture";
inline constexpr std::string_view kName = "general.name";
inline constexpr std::string_view kFileType = "general.file_type";
inline constexpr std::string_view kQuantizationVersion = "general.quantization_version";
inline constexpr std::string_view kSplitCount = "split.count";
inline constexpr std::string_view kTokenizerModel = "tokenizer.ggml.model";
inline constexpr std::string_view kTokenizerPre = "tokenizer.ggml.pre";
inline constexpr std::string_view kTokens = "tokenizer.ggml.tokens";
inline constexpr std::string_view kTokenTypes = "tokenizer.ggml.token_type";
inline constexpr std::string_view kMerges = "tokenizer.ggml.merges";
inline constexpr std::string_view kBosTokenId = "tokenizer.ggml.bos_token_id";
inline constexpr std::string_view kEosTokenId = "tokenizer.ggml.eos_token_id";
inline constexpr std::string_view kPaddingTokenId = "tokenizer.ggml.padding_token_id";
inline constexpr std::string_view kAddBosToken = "tokenizer.ggml.add_bos_token";
}  // namespace gguf_keys

// Metadata keys of the architecture, in the order of the table in gguf_names.cc.
enum class ConfigKey {
  kHiddenSize,
  kNumHiddenLayers,
  kNumAttentionHeads,
  kNumKeyValueHeads,
  kHeadDim,
  kValueHeadDim,
  kNumExperts,
  kNumExpertsPerTok,
  kMoeIntermediateSize,
  kMaxPositionEmbeddings,
  kRmsNormEps,
  kRopeTheta,
  kVocabSize,           // Optional: the rows of embed_tokens say it too.
  kNormTopkProb,        // Optional: absent means true, which is how the architecture defines it.
  kIntermediateSize,    // Of dense layers, which qwen3moe files declare and do not have.
  kRopeScalingType,     // Optional: anything but "none" is unsupported.
  kRopeDimensionCount,  // Optional: must equal head_dim.
  kExpertGatingFunc,    // Optional: must be 1, softmax.
};
std::string gguf_key(ConfigKey key);  // "qwen3moe.embedding_length"
// Whether `key` is one of the architecture's that gguf_key can return.
bool is_config_key(std::string_view key);
// Whether `key` starts with the architecture's name and a dot.
bool is_architecture_key(std::string_view key);

// Tensors, of a layer and outside.
enum class TensorRole {
  kEmbedTokens,
  kNorm,
  kLmHead,
  kInputLayernorm,
  kQProj,
  kKProj,
  kVProj,
  kOProj,
  kQNorm,
  kKNorm,
  kPostAttentionLayernorm,
  kRouter,
  kGateProj,
  kUpProj,
  kDownProj,
};
// `layer` is ignored for the first three. "blk.3.ffn_gate_inp.weight"
std::string gguf_tensor_name(TensorRole role, std::size_t layer = 0);

}  // namespace refute
