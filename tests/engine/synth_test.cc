#include "engine/synth.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "engine/model.h"
#include "engine/synth_blocks.h"
#include "engine/synth_presets.h"
#include "engine/tokenizer.h"
#include "tests/engine/gguf_fixtures.h"

namespace refute {
namespace {

std::string bytes_of(const SynthOptions& options) {
  const TemporaryFile file("synth.gguf");
  write_model(options, file.path());
  return file.read();
}

// FNV-1a.
std::uint64_t hash(const std::string& bytes) {
  std::uint64_t value = 0xcbf29ce484222325u;
  for (const char c : bytes) value = (value ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return value;
}

std::vector<TensorType> weight_types() {
  std::vector<TensorType> types;
  for (const TensorTypeInfo& info : tensor_types()) {
    if (info.is_weight) types.push_back(info.type);
  }
  return types;
}

std::size_t tensor_bytes(const SynthOptions& options, const TensorPlace& place) {
  const std::vector<std::size_t> shape = tensor_shape(options.config, place.role);
  std::size_t bytes = row_bytes(synth_type(options, place), shape.back());
  for (std::size_t i = 0; i + 1 < shape.size(); ++i) bytes *= shape[i];
  return bytes;
}

TEST(Synth, SameSeedGivesTheSameBytesWithAnyNumberOfThreads) {
  SynthOptions options = mixed_model();
  const std::string bytes = bytes_of(options);
  for (const std::size_t num_threads : {0u, 2u, 5u}) {
    options.num_threads = num_threads;
    EXPECT_EQ(bytes_of(options), bytes) << num_threads;
  }
  options.seed += 1;
  const std::string other = bytes_of(options);
  EXPECT_EQ(other.size(), bytes.size());
  EXPECT_NE(other, bytes);
}

TEST(Synth, GivesTheSameBytesOnEveryMachine) {
  EXPECT_EQ(hash(bytes_of(mixed_model())), 1861587691198825103u);
}

TEST(Synth, WritesWhatTheOptionsSay) {
  for (SynthOptions options : {smallest_model(), mixed_model()}) {
    options.config.norm_topk_prob = options.name == "mixed";
    const TemporaryFile file("options.gguf");
    write_model(options, file.path());
    const Result<Model> model = Model::load(file.path(), 1);
    ASSERT_TRUE(model) << model.error().message();
    EXPECT_EQ(model->name(), options.name);
    const Config& config = model->config();
    EXPECT_EQ(config.hidden_size, options.config.hidden_size);
    EXPECT_EQ(config.num_hidden_layers, options.config.num_hidden_layers);
    EXPECT_EQ(config.num_attention_heads, options.config.num_attention_heads);
    EXPECT_EQ(config.num_key_value_heads, options.config.num_key_value_heads);
    EXPECT_EQ(config.head_dim, options.config.head_dim);
    EXPECT_EQ(config.num_experts, options.config.num_experts);
    EXPECT_EQ(config.num_experts_per_tok, options.config.num_experts_per_tok);
    EXPECT_EQ(config.moe_intermediate_size, options.config.moe_intermediate_size);
    EXPECT_EQ(config.vocab_size, options.config.vocab_size);
    EXPECT_EQ(config.max_position_embeddings, options.config.max_position_embeddings);
    EXPECT_EQ(config.rms_norm_eps, options.config.rms_norm_eps);
    EXPECT_EQ(config.rope_theta, options.config.rope_theta);
    EXPECT_EQ(config.norm_topk_prob, options.config.norm_topk_prob);
    EXPECT_FALSE(config.tie_word_embeddings);
  }
}

TEST(Synth, TiesTheLmHeadWhenAsked) {
  SynthOptions options = smallest_model();
  options.config.tie_word_embeddings = true;
  const TemporaryFile file("tied.gguf");
  write_model(options, file.path());
  const Result<Model> model = Model::load(file.path(), 1);
  ASSERT_TRUE(model) << model.error().message();
  EXPECT_TRUE(model->config().tie_word_embeddings);
}

TEST(Synth, WeightsDependOnTheirNameAndNotOnTheRestOfTheModel) {
  SynthOptions shorter = smallest_model();
  SynthOptions longer = smallest_model();
  longer.config.num_hidden_layers = 2;
  longer.layers.push_back(longer.layers[0]);
  const TemporaryFile file("prefix.gguf");
  write_model(shorter, file.path());
  EditableGguf one = EditableGguf::read(file.path());
  write_model(longer, file.path());
  EditableGguf two = EditableGguf::read(file.path());
  for (const EditableGguf::Tensor& tensor : one.tensors) {
    EXPECT_EQ(two.tensor(tensor.name).data, tensor.data) << tensor.name;
  }
  EXPECT_NE(two.tensor("blk.1.attn_q.weight").data, two.tensor("blk.0.attn_q.weight").data);
  EXPECT_NE(two.tensor("blk.0.ffn_up_exps.weight").data,
            two.tensor("blk.0.ffn_gate_exps.weight").data);
}

TEST(Synth, EveryTypeHasTheMeanAndDeviationAskedFor) {
  constexpr std::size_t kColumns = 4096;
  constexpr std::size_t kRows = 16;
  for (const TensorType type : weight_types()) {
    double sum = 0.0;
    double squares = 0.0;
    for (std::size_t row = 0; row < kRows; ++row) {
      std::vector<std::byte> bytes(row_bytes(type, kColumns));
      RowRandom random(11, "tensor", row);
      fill_weight_row(type, 0.125, random, bytes);
      ASSERT_TRUE(row_scales_are_finite(type, bytes.data(), kColumns));
      std::vector<double> values(kColumns);
      dequantize_row(type, bytes.data(), std::span<double>(values));
      for (const double value : values) {
        sum += value;
        squares += value * value;
      }
    }
    const double count = kColumns * kRows;
    const std::string_view name = tensor_type_info(type).name;
    EXPECT_LT(std::abs(sum / count), 0.01) << name;
    EXPECT_NEAR(std::sqrt(squares / count), 0.125, 0.0125) << name;
  }
}

TEST(Synth, RowsDiffer) {
  std::set<std::vector<std::byte>> rows;
  for (const std::uint64_t seed : {0u, 1u, 2u}) {
    for (const std::string tensor : {"a", "b"}) {
      for (std::uint64_t row = 0; row < 50; ++row) {
        RowRandom random(seed, tensor, row);
        std::vector<std::byte> bytes(row_bytes(TensorType::kQ4_K, 256));
        fill_weight_row(TensorType::kQ4_K, 1.0, random, bytes);
        rows.insert(bytes);
      }
    }
  }
  EXPECT_EQ(rows.size(), 300u);
}

TEST(Synth, RefusesOptionsThatNoModelCanHave) {
  const TemporaryFile file("refused.gguf");
  const auto error_of = [&](const auto& edit) {
    SynthOptions options = smallest_model();
    edit(options);
    const Result<void> written = write_synthetic_model(options, file.path());
    EXPECT_FALSE(written);
    return written ? Error{} : written.error();
  };
  const Error no_experts = error_of([](SynthOptions& o) { o.config.num_experts = 0; });
  EXPECT_EQ(no_experts.kind, ErrorKind::kMalformed);
  EXPECT_NE(no_experts.message().find("num_experts (qwen3moe.expert_count)"), std::string::npos);
  const Error layers = error_of([](SynthOptions& o) { o.layers.clear(); });
  EXPECT_EQ(layers.kind, ErrorKind::kInvalidShape);
  const Error columns =
      error_of([](SynthOptions& o) { o.layers[0].down_proj = TensorType::kQ4_K; });
  EXPECT_EQ(columns.kind, ErrorKind::kInvalidShape);
  EXPECT_NE(columns.message().find("blk.0.ffn_down_exps.weight"), std::string::npos);
  EXPECT_NE(columns.message().find("multiples of 256 for Q4_K, found 32"), std::string::npos);
  const Error type = error_of([](SynthOptions& o) { o.lm_head = TensorType::kI32; });
  EXPECT_EQ(type.kind, ErrorKind::kUnsupported);
  const Error norm = error_of([](SynthOptions& o) { o.norms = TensorType::kQ8_0; });
  EXPECT_EQ(norm.kind, ErrorKind::kUnsupported);
  EXPECT_FALSE(std::filesystem::exists(file.path()));
  const Result<void> nowhere = write_synthetic_model(smallest_model(), "/nonexistent/model.gguf");
  ASSERT_FALSE(nowhere);
  EXPECT_EQ(nowhere.error().kind, ErrorKind::kUnreadable);
}

TEST(Synth, ReportsProgressUpToTheLastByte) {
  const TemporaryFile file("progress.gguf");
  std::size_t last = 0;
  std::size_t total = 0;
  const Result<void> written =
      write_synthetic_model(smallest_model(), file.path(), [&](std::size_t done, std::size_t all) {
        EXPECT_GT(done, last);
        last = done;
        total = all;
      });
  ASSERT_TRUE(written) << written.error().message();
  EXPECT_GT(total, 0u);
  EXPECT_EQ(last, total);
}

TEST(Synth, SetsTypesByName) {
  SynthOptions options = *synth_preset("tiny");
  ASSERT_TRUE(set_synth_type(options, "gate_proj", TensorType::kQ5_K));
  ASSERT_TRUE(set_synth_type(options, "1.gate_proj", TensorType::kF16));
  ASSERT_TRUE(set_synth_type(options, "embed_tokens", TensorType::kBF16));
  ASSERT_TRUE(set_synth_type(options, "lm_head", TensorType::kQ8_0));
  ASSERT_TRUE(set_synth_type(options, "norms", TensorType::kF16));
  EXPECT_EQ(synth_type(options, {TensorRole::kGateProj, 0}), TensorType::kQ5_K);
  EXPECT_EQ(synth_type(options, {TensorRole::kGateProj, 1}), TensorType::kF16);
  EXPECT_EQ(synth_type(options, {TensorRole::kGateProj, 2}), TensorType::kQ5_K);
  EXPECT_EQ(synth_type(options, {TensorRole::kEmbedTokens, 0}), TensorType::kBF16);
  EXPECT_EQ(synth_type(options, {TensorRole::kLmHead, 0}), TensorType::kQ8_0);
  EXPECT_EQ(synth_type(options, {TensorRole::kQNorm, 2}), TensorType::kF16);
  EXPECT_EQ(synth_type(options, {TensorRole::kRouter, 0}), TensorType::kF32);
  for (const std::string name : {"", "gate", "x.gate_proj", "1.norms", "-1.gate_proj", "1."}) {
    const Result<void> set = set_synth_type(options, name, TensorType::kF32);
    ASSERT_FALSE(set) << name;
    EXPECT_EQ(set.error().kind, ErrorKind::kUnsupported);
    EXPECT_NE(set.error().message().find("gate_proj, up_proj"), std::string::npos);
  }
  const Result<void> outside = set_synth_type(options, "3.gate_proj", TensorType::kF32);
  ASSERT_FALSE(outside);
  EXPECT_EQ(outside.error().kind, ErrorKind::kInvalidShape);
}

TEST(SynthPreset, OfSmallModelsLoads) {
  for (const SynthPreset& preset : synth_presets()) {
    if (preset.name == "qwen3-30b-a3b") continue;
    const Result<SynthOptions> options = synth_preset(preset.name);
    ASSERT_TRUE(options) << options.error().message();
    const TemporaryFile file("preset.gguf");
    write_model(*options, file.path());
    const Result<Model> model = Model::load(file.path());
    ASSERT_TRUE(model) << model.error().message();
    EXPECT_EQ(model->name(), preset.name);
  }
  const Result<SynthOptions> unknown = synth_preset("nanoo");
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().kind, ErrorKind::kUnsupported);
  EXPECT_NE(unknown.error().message().find("qwen3-30b-a3b, nano"), std::string::npos);
}

TEST(SynthPreset, OfQwen3HasTheTypesAndBytesOfTheRealFile) {
  const SynthOptions options = *synth_preset("qwen3-30b-a3b");
  const std::set<std::size_t> more_bits = {0,  1,  2,  3,  4,  5,  8,  11, 14, 17, 20, 23,
                                           26, 29, 32, 35, 38, 41, 42, 43, 44, 45, 46, 47};
  ASSERT_EQ(options.layers.size(), 48u);
  for (std::size_t i = 0; i < 48; ++i) {
    const TensorType type = more_bits.contains(i) ? TensorType::kQ6_K : TensorType::kQ4_K;
    EXPECT_EQ(options.layers[i].down_proj, type) << i;
    EXPECT_EQ(options.layers[i].v_proj, type) << i;
    EXPECT_EQ(options.layers[i].gate_proj, TensorType::kQ4_K) << i;
  }
  std::size_t bytes = 0;
  double read_per_token = 0.0;
  for (const TensorPlace& place : model_tensors(options.config)) {
    const std::size_t size = tensor_bytes(options, place);
    bytes += size;
    const bool expert = place.role == TensorRole::kGateProj || place.role == TensorRole::kUpProj ||
                        place.role == TensorRole::kDownProj;
    if (place.role == TensorRole::kEmbedTokens) continue;
    read_per_token += static_cast<double>(size) * (expert ? 8.0 / 128.0 : 1.0);
  }
  EXPECT_NEAR(static_cast<double>(bytes) / (1 << 30), 17.28, 0.01);
  EXPECT_NEAR(read_per_token, 1.9196e9, 1e5);
}

TEST(SynthPreset, CutOffKeepsTheTypesOfItsLayers) {
  const SynthOptions whole = *synth_preset("qwen3-30b-a3b");
  const SynthOptions cut = *synth_preset("qwen3-30b-a3b", 10);
  EXPECT_EQ(cut.config.num_hidden_layers, 10u);
  ASSERT_EQ(cut.layers.size(), 10u);
  for (std::size_t i = 0; i < 10; ++i) {
    EXPECT_EQ(cut.layers[i].down_proj, whole.layers[i].down_proj) << i;
  }
  const SynthOptions longer = *synth_preset("qwen3-30b-a3b", 64);
  EXPECT_EQ(longer.layers[7].down_proj, TensorType::kQ6_K);
  EXPECT_EQ(longer.layers[8].down_proj, TensorType::kQ4_K);
  EXPECT_EQ(synth_preset("nano", 5)->layers[4].down_proj, TensorType::kQ6_K);
}

TEST(SynthTokenizer, EncodesEveryByteAndItsMerge) {
  for (const std::size_t vocab_size : {256u, 257u, 258u, 300u}) {
    SynthOptions options = smallest_model();
    options.config.vocab_size = vocab_size;
    const TemporaryFile file("tokenizer.gguf");
    write_model(options, file.path());
    const Result<Model> model = Model::load(file.path(), 1);
    ASSERT_TRUE(model) << model.error().message();
    const Result<Tokenizer> tokenizer = Tokenizer::create(*model->tokenizer_data());
    ASSERT_TRUE(tokenizer) << tokenizer.error().message();
    EXPECT_EQ(tokenizer->vocab_size(), vocab_size);
    std::string text;
    for (int byte = 0; byte < 256; ++byte) text += static_cast<char>(byte);
    const Result<std::vector<std::int32_t>> ids = tokenizer->encode(text, false);
    ASSERT_TRUE(ids) << ids.error().message();
    ASSERT_EQ(ids->size(), 256u);
    for (std::int32_t byte = 0; byte < 256; ++byte) {
      EXPECT_EQ((*ids)[static_cast<std::size_t>(byte)], byte);
    }
    const Result<std::vector<std::int32_t>> spaces = tokenizer->encode("   ", false);
    ASSERT_TRUE(spaces) << spaces.error().message();
    EXPECT_EQ(spaces->size(), vocab_size >= 258 ? 2u : 3u);
    EXPECT_EQ(tokenizer->eos(), vocab_size > 256 ? static_cast<std::int32_t>(vocab_size) - 1 : 0);
  }
}

}  // namespace
}  // namespace refute
