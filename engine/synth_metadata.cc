#include "engine/synth_metadata.h"

#include <cstdint>
#include <string>
#include <vector>

#include "engine/gguf_names.h"
#include "engine/utf8.h"

namespace refute {
namespace {

constexpr std::size_t kNumBytes = 256;
constexpr std::int64_t kNormalToken = 1;
constexpr std::int64_t kControlToken = 3;

// GPT-2's printable character for every byte: Latin-1's printable ones stand for themselves, the
// other bytes, in order, for U+0100 and up.
std::vector<std::string> byte_characters() {
  std::vector<std::string> characters;
  char32_t next = 0x100;
  for (char32_t byte = 0; byte < kNumBytes; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
    std::string& text = characters.emplace_back();
    append_utf8(printable ? byte : next++, text);
  }
  return characters;
}

std::string filler(std::size_t id) { return "<" + std::to_string(id) + ">"; }

struct Vocabulary {
  std::vector<std::string> tokens;
  std::vector<std::int64_t> types;
  std::string merge;
  std::size_t end_of_text = 0;
};

Vocabulary make_vocabulary(std::size_t vocab_size) {
  Vocabulary vocabulary;
  std::vector<std::string>& tokens = vocabulary.tokens;
  vocabulary.merge = "< 0";
  if (vocab_size >= kNumBytes) {
    tokens = byte_characters();
    vocabulary.merge = tokens[' '] + " " + tokens[' '];
  }
  if (vocab_size >= kNumBytes + 2) tokens.push_back(tokens[' '] + tokens[' ']);
  while (tokens.size() < vocab_size) tokens.push_back(filler(tokens.size()));
  vocabulary.types.assign(vocab_size, kNormalToken);
  if (vocab_size > kNumBytes) {
    vocabulary.end_of_text = vocab_size - 1;
    tokens.back() = "<|endoftext|>";
    vocabulary.types.back() = kControlToken;
  }
  return vocabulary;
}

void add_tokenizer(std::size_t vocab_size, GgufWriter& writer) {
  Vocabulary vocabulary = make_vocabulary(vocab_size);
  const auto add = [&](std::string_view key, GgufValue value) {
    writer.add_value(std::string(key), std::move(value));
  };
  add(gguf_keys::kTokenizerModel, std::string("gpt2"));
  add(gguf_keys::kTokenizerPre, std::string("qwen2"));
  add(gguf_keys::kTokens, std::move(vocabulary.tokens));
  add(gguf_keys::kTokenTypes, std::move(vocabulary.types));
  add(gguf_keys::kMerges, std::vector<std::string>{vocabulary.merge});
  add(gguf_keys::kEosTokenId, std::uint64_t{vocabulary.end_of_text});
  add(gguf_keys::kPaddingTokenId, std::uint64_t{vocabulary.end_of_text});
  add(gguf_keys::kAddBosToken, false);
}

}  // namespace

void add_synth_metadata(const SynthOptions& options, GgufWriter& writer) {
  constexpr std::uint64_t kMostlyQ4KM = 15;  // The public file type nearest to any mix made here.
  constexpr std::uint64_t kQuantizationVersion = 2;
  const Config& config = options.config;
  writer.add_value(std::string(gguf_keys::kArchitecture), std::string(kArchitecture));
  writer.add_value(std::string(gguf_keys::kName), options.name);
  writer.add_value(std::string(gguf_keys::kFileType), kMostlyQ4KM);
  writer.add_value(std::string(gguf_keys::kQuantizationVersion), kQuantizationVersion);

  const auto add = [&](ConfigKey key, GgufValue value) {
    writer.add_value(gguf_key(key), std::move(value));
  };
  add(ConfigKey::kNumHiddenLayers, std::uint64_t{config.num_hidden_layers});
  add(ConfigKey::kMaxPositionEmbeddings, std::uint64_t{config.max_position_embeddings});
  add(ConfigKey::kHiddenSize, std::uint64_t{config.hidden_size});
  add(ConfigKey::kIntermediateSize, std::uint64_t{config.moe_intermediate_size});
  add(ConfigKey::kNumAttentionHeads, std::uint64_t{config.num_attention_heads});
  add(ConfigKey::kNumKeyValueHeads, std::uint64_t{config.num_key_value_heads});
  add(ConfigKey::kHeadDim, std::uint64_t{config.head_dim});
  add(ConfigKey::kValueHeadDim, std::uint64_t{config.head_dim});
  add(ConfigKey::kRopeTheta, config.rope_theta);
  add(ConfigKey::kRmsNormEps, double{config.rms_norm_eps});
  add(ConfigKey::kNumExperts, std::uint64_t{config.num_experts});
  add(ConfigKey::kNumExpertsPerTok, std::uint64_t{config.num_experts_per_tok});
  add(ConfigKey::kMoeIntermediateSize, std::uint64_t{config.moe_intermediate_size});
  add(ConfigKey::kVocabSize, std::uint64_t{config.vocab_size});
  if (!config.norm_topk_prob) add(ConfigKey::kNormTopkProb, false);
  if (options.tokenizer == SynthTokenizer::kBytes) add_tokenizer(config.vocab_size, writer);
}

}  // namespace refute
