#include "engine/model.h"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <limits>

#include "engine/backend.h"
#include "engine/gguf_names.h"
#include "tests/engine/gguf_fixtures.h"

namespace refute {
namespace {

const std::filesystem::path kPacks = std::filesystem::path(REFUTE_TEST_DATA) / "packs";

using Edit = std::function<void(EditableGguf&)>;

// Loads what `edit` makes of a synthetic model.
Result<Model> load_edited(const SynthOptions& options, const Edit& edit) {
  const TemporaryFile file("edited.gguf");
  write_model(options, file.path());
  EditableGguf editable = EditableGguf::read(file.path());
  edit(editable);
  editable.write(file.path());
  return Model::load(file.path(), 1);
}

void expect_error(const Result<Model>& model, ErrorKind kind,
                  const std::vector<std::string>& parts) {
  ASSERT_FALSE(model) << "loaded, although " << parts.front();
  const std::string message = model.error().message();
  EXPECT_EQ(model.error().kind, kind) << message;
  for (const std::string& part : parts) {
    EXPECT_NE(message.find(part), std::string::npos) << "'" << part << "' in: " << message;
  }
}

std::vector<std::string> tensor_names(const SynthOptions& options) {
  std::vector<std::string> names;
  for (const TensorPlace& place : model_tensors(options.config)) names.push_back(place.name());
  return names;
}

TEST(Model, LoadsTheOraclePacks) {
  for (const std::string name : {"nano", "tiny", "gqa", "mixed"}) {
    const Result<Model> model = Model::load(kPacks / (name + ".gguf"));
    ASSERT_TRUE(model) << model.error().message();
    EXPECT_EQ(model->name(), name);
    EXPECT_EQ(model->layers().size(), model->config().num_hidden_layers);
    EXPECT_EQ(model->config().rope_theta, 1e6);
    EXPECT_EQ(model->config().rms_norm_eps, 1e-6f);
    EXPECT_TRUE(model->config().norm_topk_prob);
    EXPECT_FALSE(model->config().tie_word_embeddings);
    ASSERT_TRUE(model->tokenizer_data().has_value());
    EXPECT_EQ(model->tokenizer_data()->tokens.size(), model->config().vocab_size);
  }
  const Result<Model> mixed = Model::load(kPacks / "mixed.gguf");
  ASSERT_TRUE(mixed) << mixed.error().message();
  EXPECT_EQ(mixed->config().vocab_size, 300u);
  EXPECT_EQ(mixed->embed_tokens().type, TensorType::kBF16);
  EXPECT_EQ(mixed->layers()[1].q_proj.type, TensorType::kQ8_0);
  EXPECT_EQ(mixed->layers()[1].v_proj.type, TensorType::kF16);
  EXPECT_EQ(mixed->layers()[1].gate_proj.type, TensorType::kQ5_K);
  EXPECT_EQ(mixed->lm_head().type, TensorType::kF32);
}

TEST(Model, HasTheEmbeddedSubjectsConfiguration) {
  const std::filesystem::path path =
      std::filesystem::path(REFUTE_SOURCE_DIR) / "contracts/subjects/kjv-moe-7m.gguf";
  const Result<Model> model = Model::load(path);
  ASSERT_TRUE(model) << model.error().message();
  const Config& config = model->config();
  EXPECT_EQ(config.hidden_size, 256u);
  EXPECT_EQ(config.num_hidden_layers, 4u);
  EXPECT_EQ(config.num_attention_heads, 4u);
  EXPECT_EQ(config.num_key_value_heads, 2u);
  EXPECT_EQ(config.head_dim, 64u);
  EXPECT_EQ(config.num_experts, 8u);
  EXPECT_EQ(config.num_experts_per_tok, 2u);
  EXPECT_EQ(config.moe_intermediate_size, 256u);
  EXPECT_EQ(config.vocab_size, 257u);
  EXPECT_EQ(config.max_position_embeddings, 512u);
  EXPECT_EQ(model->file_bytes().size(), std::filesystem::file_size(path));
  EXPECT_EQ(model->tokenizer_data()->eos, 256);
  EXPECT_FALSE(model->tokenizer_data()->bos.has_value());
}

TEST(Model, GivesEveryWeightItsShapeAndItsBytes) {
  const TemporaryFile path("weights.gguf");
  write_model(mixed_model(), path.path());
  const EditableGguf file = EditableGguf::read(path.path());
  const Result<Model> model = Model::load(path.path(), 2);
  ASSERT_TRUE(model) << model.error().message();
  const auto expect_bytes = [&](const WeightView& view, std::size_t rows, std::size_t columns,
                                const std::string& name, std::size_t offset) {
    EditableGguf copy = file;
    const EditableGguf::Tensor& tensor = copy.tensor(name);
    EXPECT_EQ(view.type, tensor.type) << name;
    EXPECT_EQ(view.rows, rows) << name;
    EXPECT_EQ(view.columns, columns) << name;
    ASSERT_LE(offset + view.bytes(), tensor.data.size()) << name;
    EXPECT_EQ(std::memcmp(view.data, tensor.data.data() + offset, view.bytes()), 0) << name;
  };
  const LayerWeights& layer = model->layers()[0];
  expect_bytes(model->embed_tokens(), 8, 256, "token_embd.weight", 0);
  expect_bytes(model->lm_head(), 8, 256, "output.weight", 0);
  expect_bytes(layer.q_proj, 256, 256, "blk.0.attn_q.weight", 0);
  expect_bytes(layer.k_proj, 128, 256, "blk.0.attn_k.weight", 0);
  expect_bytes(layer.v_proj, 128, 256, "blk.0.attn_v.weight", 0);
  expect_bytes(layer.o_proj, 256, 256, "blk.0.attn_output.weight", 0);
  expect_bytes(layer.router, 2, 256, "blk.0.ffn_gate_inp.weight", 0);
  for (const std::size_t expert : {0u, 1u}) {
    expect_bytes(layer.gate_proj.expert(expert), 256, 256, "blk.0.ffn_gate_exps.weight",
                 expert * 256 * 144);
    expect_bytes(layer.up_proj.expert(expert), 256, 256, "blk.0.ffn_up_exps.weight",
                 expert * 256 * 176);
    expect_bytes(layer.down_proj.expert(expert), 256, 256, "blk.0.ffn_down_exps.weight",
                 expert * 256 * 210);
  }
  EXPECT_EQ(layer.q_norm.size(), 64u);
  EXPECT_EQ(layer.k_norm.size(), 64u);
  EXPECT_EQ(layer.input_layernorm.size(), 256u);
  EXPECT_EQ(layer.post_attention_layernorm.size(), 256u);
  EXPECT_EQ(model->norm().size(), 256u);
  std::size_t bytes = 0;
  for (const EditableGguf::Tensor& tensor : file.tensors) bytes += tensor.data.size();
  EXPECT_EQ(model->weight_bytes(), bytes);
  // One of the two experts, one of the eight rows of embed_tokens.
  const std::size_t experts = 256 * (144 + 176 + 210);
  EXPECT_EQ(model->bytes_per_token(), bytes - experts - 7 * 144);
}

TEST(Model, KeepsItsWeightsWhenMoved) {
  const TemporaryFile path("moved_model.gguf");
  write_model(smallest_model(), path.path());
  Result<Model> loaded = Model::load(path.path(), 1);
  ASSERT_TRUE(loaded) << loaded.error().message();
  const std::byte* const data = loaded->lm_head().data;
  const Model moved = std::move(*loaded);
  EXPECT_EQ(moved.lm_head().data, data);
  EXPECT_EQ(moved.name(), "smallest");
  EXPECT_EQ(moved.path(), path.path());
}

TEST(Model, ReadsNormsOfEveryFloatingPointType) {
  for (const TensorType type : {TensorType::kF32, TensorType::kF16, TensorType::kBF16}) {
    SynthOptions options = smallest_model();
    options.norms = type;
    const Result<Model> model = load_edited(options, [](EditableGguf&) {});
    ASSERT_TRUE(model) << model.error().message();
    for (const float value : model->norm()) {
      EXPECT_GT(value, 0.25f);
      EXPECT_LT(value, 1.75f);
    }
  }
}

TEST(Model, WithoutAnLmHeadUsesEmbedTokens) {
  const Result<Model> model = load_edited(
      smallest_model(), [](EditableGguf& file) { file.remove_tensor("output.weight"); });
  ASSERT_TRUE(model) << model.error().message();
  EXPECT_TRUE(model->config().tie_word_embeddings);
  EXPECT_EQ(model->lm_head().data, model->embed_tokens().data);
}

TEST(Model, LoadsTheDialectOfThePublicConverter) {
  const Result<Model> model = load_edited(smallest_model(), [](EditableGguf& file) {
    file.remove_value("qwen3moe.vocab_size");
    file.remove_value("tokenizer.ggml.padding_token_id");
    file.set_value("general.type", std::string("model"));
    file.set_value("general.size_label", std::string("30B-A3B"));
    file.set_value("general.tags", std::vector<std::string>{"text-generation"});
    file.set_value("general.quantization_version", std::uint64_t{2});
    file.set_value("quantize.imatrix.entries_count", std::int64_t{385});
    file.set_value("tokenizer.chat_template", std::string("{%- if tools %}"));
    file.set_value("tokenizer.ggml.bos_token_id", std::uint64_t{3});
    file.set_value("tokenizer.ggml.add_bos_token", false);
    file.set_value("qwen3moe.rope.dimension_count", std::uint64_t{16});
    file.set_value("qwen3moe.rope.scaling.type", std::string("none"));
    file.set_value("qwen3moe.expert_gating_func", std::uint64_t{1});
    file.set_value("qwen3moe.expert_weights_norm", false);
  });
  ASSERT_TRUE(model) << model.error().message();
  EXPECT_EQ(model->config().vocab_size, 8u);
  EXPECT_FALSE(model->config().norm_topk_prob);
  EXPECT_EQ(model->tokenizer_data()->bos, 3);
  EXPECT_FALSE(model->tokenizer_data()->padding.has_value());
}

TEST(Model, NeedsNoTokenizer) {
  SynthOptions options = smallest_model();
  options.tokenizer = SynthTokenizer::kNone;
  const Result<Model> model = load_edited(options, [](EditableGguf&) {});
  ASSERT_TRUE(model) << model.error().message();
  EXPECT_FALSE(model->tokenizer_data().has_value());
}

TEST(Model, NamesEveryMissingKey) {
  const std::vector<std::string> required = {
      "general.architecture",
      "qwen3moe.block_count",
      "qwen3moe.context_length",
      "qwen3moe.embedding_length",
      "qwen3moe.attention.head_count",
      "qwen3moe.attention.head_count_kv",
      "qwen3moe.attention.key_length",
      "qwen3moe.attention.value_length",
      "qwen3moe.attention.layer_norm_rms_epsilon",
      "qwen3moe.rope.freq_base",
      "qwen3moe.expert_count",
      "qwen3moe.expert_used_count",
      "qwen3moe.expert_feed_forward_length",
      "tokenizer.ggml.tokens",
  };
  for (const std::string& key : required) {
    expect_error(load_edited(smallest_model(), [&](EditableGguf& file) { file.remove_value(key); }),
                 ErrorKind::kMissingKey, {key, "edited.gguf", "no such key"});
    expect_error(
        load_edited(smallest_model(), [&](EditableGguf& file) { file.set_value(key, true); }),
        ErrorKind::kMalformed, {key, "found a bool"});
  }
}

TEST(Model, RefusesHyperparametersOutOfRange) {
  const std::uint64_t zero = 0;
  const std::uint64_t huge = std::uint64_t{1} << 62;
  for (const std::string key : {"block_count", "context_length", "embedding_length",
                                "attention.head_count", "attention.head_count_kv", "expert_count",
                                "expert_used_count", "expert_feed_forward_length"}) {
    for (const std::uint64_t bad : {zero, huge}) {
      const auto edit = [&](EditableGguf& file) { file.set_value("qwen3moe." + key, bad); };
      expect_error(load_edited(smallest_model(), edit), ErrorKind::kMalformed,
                   {"qwen3moe." + key, "found " + std::to_string(bad)});
    }
  }
  for (const double bad : {0.0, -1.0, std::numeric_limits<double>::infinity(),
                           std::numeric_limits<double>::quiet_NaN()}) {
    for (const std::string key :
         {"qwen3moe.attention.layer_norm_rms_epsilon", "qwen3moe.rope.freq_base"}) {
      const auto edit = [&](EditableGguf& file) { file.set_value(key, bad); };
      expect_error(load_edited(smallest_model(), edit), ErrorKind::kMalformed,
                   {key, "a finite number above 0"});
    }
  }
}

TEST(Model, RefusesHyperparametersThatContradictEachOther) {
  struct Case {
    std::string key;
    GgufValue value;
    ErrorKind kind;
    std::string part;
  };
  const std::vector<Case> cases = {
      {"general.architecture", std::string("llama"), ErrorKind::kUnsupported, "qwen3moe"},
      {"qwen3moe.attention.head_count", std::uint64_t{3}, ErrorKind::kInvalidShape,
       "'blk.0.attn_q.weight'"},
      {"qwen3moe.attention.head_count_kv", std::uint64_t{3}, ErrorKind::kMalformed,
       "a multiple of the 3"},
      {"qwen3moe.attention.value_length", std::uint64_t{8}, ErrorKind::kUnsupported, "expected 16"},
      {"qwen3moe.expert_used_count", std::uint64_t{3}, ErrorKind::kMalformed, "at most the 2"},
      {"qwen3moe.vocab_size", std::uint64_t{9}, ErrorKind::kMalformed, "expected 8"},
      {"qwen3moe.rope.dimension_count", std::uint64_t{8}, ErrorKind::kUnsupported, "expected 16"},
      {"qwen3moe.rope.scaling.type", std::string("yarn"), ErrorKind::kUnsupported, "'yarn'"},
      {"qwen3moe.expert_gating_func", std::uint64_t{2}, ErrorKind::kUnsupported, "softmax"},
      {"qwen3moe.expert_shared_count", std::uint64_t{1}, ErrorKind::kUnsupported,
       "'qwen3moe.expert_shared_count'"},
      {"split.count", std::uint64_t{2}, ErrorKind::kUnsupported, "a model in one file"},
      {"general.name", std::uint64_t{2}, ErrorKind::kMalformed, "general.name"},
      {"tokenizer.ggml.tokens", std::vector<std::string>{"a"}, ErrorKind::kMalformed,
       "expected 8 tokens"},
      {"tokenizer.ggml.eos_token_id", std::uint64_t{1} << 40, ErrorKind::kMalformed,
       "tokenizer.ggml.eos_token_id"},
      {"tokenizer.ggml.merges", true, ErrorKind::kMalformed, "tokenizer.ggml.merges"},
      {"tokenizer.ggml.token_type", true, ErrorKind::kMalformed, "tokenizer.ggml.token_type"},
  };
  for (const Case& bad : cases) {
    const auto edit = [&](EditableGguf& file) { file.set_value(bad.key, bad.value); };
    expect_error(load_edited(smallest_model(), edit), bad.kind, {bad.part, "edited.gguf"});
  }
  expect_error(load_edited(smallest_model(),
                           [](EditableGguf& file) {
                             file.set_value("qwen3moe.attention.key_length", std::uint64_t{15});
                             file.set_value("qwen3moe.attention.value_length", std::uint64_t{15});
                           }),
               ErrorKind::kMalformed, {"head_dim", "an even number, found 15"});
}

TEST(Model, NamesEveryTensorThatIsMissingOrRenamed) {
  for (const std::string& name : tensor_names(smallest_model())) {
    if (name == "output.weight") continue;  // Its absence ties it to embed_tokens.
    const auto remove = [&](EditableGguf& file) { file.remove_tensor(name); };
    expect_error(load_edited(smallest_model(), remove), ErrorKind::kMalformed,
                 {"tensor '" + name + "': expected shape [", "found no such tensor"});
  }
  for (const std::string& name : tensor_names(smallest_model())) {
    const auto rename = [&](EditableGguf& file) { file.tensor(name).name = name + "s"; };
    const Result<Model> renamed = load_edited(smallest_model(), rename);
    ASSERT_FALSE(renamed) << name;
    EXPECT_NE(renamed.error().message().find("'" + name), std::string::npos);
  }
}

TEST(Model, NamesEveryTensorOfAnotherShape) {
  for (const std::string& name : tensor_names(smallest_model())) {
    for (const std::size_t extra : {1u, 0u}) {
      // One row more, or the same elements in another number of dimensions.
      const auto reshape = [&](EditableGguf& file) {
        std::vector<std::size_t>& shape = file.tensor(name).shape;
        if (extra > 0 && shape.size() > 1) {
          shape[shape.size() - 2] += 1;
        } else if (shape.size() > 1) {
          shape[0] *= shape[1];
          shape.erase(shape.begin() + 1);
        } else {
          shape = {2, shape[0] * (1 + extra) / 2};
        }
      };
      const Result<Model> model = load_edited(smallest_model(), reshape);
      ASSERT_FALSE(model) << name;
      EXPECT_NE(model.error().message().find(name), std::string::npos) << model.error().message();
    }
  }
  const auto transpose = [](EditableGguf& file) {
    file.tensor("blk.0.attn_k.weight").shape = {32, 32};
  };
  expect_error(load_edited(smallest_model(), transpose), ErrorKind::kInvalidShape,
               {"'blk.0.attn_k.weight'", "expected shape [16, 32]", "found [32, 32]"});
}

TEST(Model, NamesEveryTensorOfATypeThatItCannotHave) {
  for (const std::string& name : tensor_names(smallest_model())) {
    for (const TensorType type : {TensorType::kI32, TensorType::kF64}) {
      const auto retype = [&](EditableGguf& file) { file.tensor(name).type = type; };
      expect_error(load_edited(smallest_model(), retype), ErrorKind::kUnsupported,
                   {"tensor '" + name + "'", "found " + std::string(tensor_type_info(type).name)});
    }
  }
  const auto quantize = [](EditableGguf& file) {
    file.tensor("output_norm.weight").type = TensorType::kQ8_0;
  };
  expect_error(load_edited(smallest_model(), quantize), ErrorKind::kUnsupported,
               {"'output_norm.weight'", "F32, F16 or BF16", "found Q8_0"});
}

TEST(Model, RefusesTensorsThatItWouldLeaveOut) {
  for (const std::string name :
       {"blk.0.attn_q.bias", "blk.0.ffn_gate.weight", "blk.0.ffn_gate_shexp.weight",
        "blk.0.ffn_gate_inp_shexp.weight", "rope_freqs.weight", "blk.1.attn_q.weight"}) {
    const auto add = [&](EditableGguf& file) {
      file.tensors.push_back({name, TensorType::kF32, {32}, {}});
    };
    expect_error(load_edited(smallest_model(), add), ErrorKind::kUnsupported,
                 {"tensor '" + name + "'", "does not have"});
  }
}

TEST(Model, AcceptsShapesWithoutOuterDimensionsOfOne) {
  SynthOptions options = smallest_model();
  options.config.num_experts = 1;
  const Result<Model> model = load_edited(options, [](EditableGguf& file) {
    file.tensor("blk.0.ffn_gate_exps.weight").shape = {32, 32};
    file.tensor("blk.0.ffn_gate_inp.weight").shape = {32};
  });
  ASSERT_TRUE(model) << model.error().message();
  EXPECT_EQ(model->layers()[0].gate_proj.num_experts, 1u);
  EXPECT_EQ(model->layers()[0].router.rows, 1u);
}

// Byte offsets of a float16 scale inside a block, and a NaN for it.
struct Scale {
  std::string tensor;
  std::size_t row_bytes;
  std::size_t offset;  // Inside a row.
  std::string bytes;
};

TEST(Model, NamesTensorExpertAndRowOfANonFiniteScale) {
  const std::string half_nan = "\x01\x7e";
  const std::string half_infinity = std::string("\x00\xfc", 2);
  const std::vector<Scale> scales = {
      {"token_embd.weight", 144, 0, half_nan},                                     // Q4_K d
      {"token_embd.weight", 144, 2, half_infinity},                                // Q4_K dmin
      {"output.weight", 210, 208, half_nan},                                       // Q6_K d
      {"blk.0.attn_q.weight", 8 * 34, 7 * 34, half_infinity},                      // Q8_0 d
      {"blk.0.attn_k.weight", 512, 100, half_nan},                                 // F16
      {"blk.0.attn_v.weight", 512, 100, "\xc0\x7f"},                               // BF16
      {"blk.0.ffn_gate_inp.weight", 1024, 4, std::string("\x00\x00\x80\xff", 4)},  // F32
  };
  for (const Scale& scale : scales) {
    const auto inject = [&](EditableGguf& file) {
      std::memcpy(file.tensor(scale.tensor).data.data() + scale.row_bytes + scale.offset,
                  scale.bytes.data(), scale.bytes.size());
    };
    expect_error(load_edited(mixed_model(), inject), ErrorKind::kNonFinite,
                 {"tensor '" + scale.tensor + "' row 1", "expected finite scales"});
  }
  const std::vector<Scale> experts = {{"blk.0.ffn_gate_exps.weight", 144, 0, half_nan},
                                      {"blk.0.ffn_up_exps.weight", 176, 2, half_nan},
                                      {"blk.0.ffn_down_exps.weight", 210, 208, half_nan}};
  for (const Scale& scale : experts) {
    const auto inject = [&](EditableGguf& file) {
      const std::size_t row = 256 + 5;  // Row 5 of expert 1.
      std::memcpy(file.tensor(scale.tensor).data.data() + row * scale.row_bytes + scale.offset,
                  scale.bytes.data(), scale.bytes.size());
    };
    expect_error(load_edited(mixed_model(), inject), ErrorKind::kNonFinite,
                 {"tensor '" + scale.tensor + "' expert 1 row 5"});
  }
}

TEST(Model, NamesTheNormAndElementThatIsNonFinite) {
  const auto inject = [](EditableGguf& file) {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    std::memcpy(file.tensor("blk.0.attn_q_norm.weight").data.data() + 12, &nan, sizeof(nan));
  };
  expect_error(load_edited(smallest_model(), inject), ErrorKind::kNonFinite,
               {"'blk.0.attn_q_norm.weight'", "element 3"});
}

TEST(Model, ReportsTheFirstNonFiniteScaleWithAnyNumberOfThreads) {
  const TemporaryFile path("threads.gguf");
  write_model(mixed_model(), path.path());
  EditableGguf file = EditableGguf::read(path.path());
  for (const std::size_t row : {7u, 300u, 511u}) {
    std::memcpy(file.tensor("blk.0.ffn_down_exps.weight").data.data() + row * 210 + 208, "\x01\x7e",
                2);
  }
  std::memcpy(file.tensor("output.weight").data.data() + 208, "\x01\x7e", 2);
  file.write(path.path());
  for (const std::size_t num_threads : {0u, 1u, 2u, 7u}) {
    expect_error(Model::load(path.path(), num_threads), ErrorKind::kNonFinite,
                 {"'blk.0.ffn_down_exps.weight' expert 0 row 7"});
  }
}

TEST(Model, LeavesItsScalesToTheFirstSession) {
  const TemporaryFile path("opened.gguf");
  write_model(mixed_model(), path.path());
  EditableGguf file = EditableGguf::read(path.path());
  std::memcpy(file.tensor("blk.0.ffn_down_exps.weight").data.data() + 300 * 210 + 208, "\x01\x7e",
              2);
  file.write(path.path());
  const Result<Model> looked_at = Model::load(path.path(), 1);
  const Result<Model> left = Model::load(path.path(), 1, ScaleCheck::kWhenOpened);
  ASSERT_TRUE(left) << left.error().message();
  ASSERT_FALSE(looked_at);
  for (const cpu::Isa isa : cpu::supported_isas()) {
    const auto backend = make_cpu_backend(cpu::Context::create(2, isa).value());
    for (int times = 0; times < 2; ++times) {
      const auto session = backend->open_session(*left, 4);
      ASSERT_FALSE(session) << cpu::isa_name(isa);
      EXPECT_EQ(session.error().message(), looked_at.error().message());
    }
  }
}

}  // namespace
}  // namespace refute
