// Probes of whole MoE blocks and forward passes: packs of tests/data, the embedded model, and
// synthetic models where a fault needs another shape.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/synth_presets.h"
#include "falsifiers/owned_weights.h"
#include "falsifiers/seeded_random.h"
#include "kernels/check.h"
#include "tests/faults/probes.h"

namespace refute {
namespace {

using Tokens = std::vector<std::int32_t>;

std::filesystem::path temporary(const std::string& name) {
  return std::filesystem::path(testing::TempDir()) / (std::to_string(::getpid()) + "_" + name);
}

// Loaded once for all probes.
const Model& pack(const std::string& name) {
  static std::map<std::string, Model> models;
  const auto found = models.find(name);
  if (found != models.end()) return found->second;
  // Where it was built, or on a machine that the program was carried to.
  const char* const carried = std::getenv("REFUTE_SOURCE_DIR");
  const std::string root = carried != nullptr ? carried : REFUTE_SOURCE_DIR;
  const std::string path =
      root + (name == "kjv-moe-7m" ? "/contracts/subjects/" : "/tests/data/packs/") + name;
  auto model = Model::load(path + ".gguf");
  CHECK(model);
  return models.emplace(name, std::move(*model)).first->second;
}

// nano with a head_dim that is not hidden_size / num_attention_heads.
const Model& wide_heads() {
  static const Model model = [] {
    SynthOptions options = synth_preset("nano").value();
    options.config.head_dim = 128;
    const auto path = temporary("wide_heads.gguf");
    CHECK(write_synthetic_model(options, path));
    Model loaded = Model::load(path).value();
    std::filesystem::remove(path);
    return loaded;
  }();
  return model;
}

Tokens some_tokens(std::size_t count, std::size_t vocab_size) {
  Tokens tokens(count);
  for (std::size_t t = 0; t < count; ++t) {
    tokens[t] = static_cast<std::int32_t>((37 * t + 11) % vocab_size);
  }
  return tokens;
}

ForwardOptions all_rows() {
  ForwardOptions options;
  options.logit_rows = LogitRows::kAll;
  return options;
}

// A session whose every call goes into an outcome.
class Sequence {
 public:
  Sequence(const Backend& backend, const Model& model, std::size_t capacity)
      : session_(backend.open_session(model, capacity).value()) {}

  void feed(const Tokens& tokens, const ForwardOptions& options = all_rows()) {
    const auto logits = session_->forward(tokens, options);
    if (logits) outcome_.add(static_cast<double>(logits->columns()));
    outcome_.add(logits);
  }
  void rollback(std::size_t length) { outcome_.add(session_->rollback(length)); }
  Outcome outcome() && { return std::move(outcome_); }

 private:
  std::unique_ptr<Session> session_;
  Outcome outcome_;
};

Outcome forward_of(const Backend& backend, const Model& model, std::size_t count) {
  Sequence sequence(backend, model, count);
  sequence.feed(some_tokens(count, model.config().vocab_size));
  return std::move(sequence).outcome();
}
Probe forward(const std::string& name, std::size_t count) {
  return [=](const Backend& backend) { return forward_of(backend, pack(name), count); };
}

// nano with gains of K that float16 cannot hold.
const Model& huge_keys() {
  static const Model model = [] {
    const Model& nano = pack("nano");
    std::string file(reinterpret_cast<const char*>(nano.file_bytes().data()),
                     nano.file_bytes().size());
    std::vector<float> gains = nano.layers()[0].k_norm;
    const std::string before(reinterpret_cast<const char*>(gains.data()),
                             gains.size() * sizeof(float));
    const std::size_t at = file.find(before);
    CHECK(at != std::string::npos);
    for (float& gain : gains) gain *= 1e5f;
    file.replace(at, before.size(), reinterpret_cast<const char*>(gains.data()), before.size());
    const auto path = temporary("huge_keys.gguf");
    std::ofstream(path, std::ios::binary) << file;
    Model loaded = Model::load(path).value();
    std::filesystem::remove(path);
    return loaded;
  }();
  return model;
}

// Twice the same call: a race need not show in one.
Outcome forward_twice(const Backend& backend) {
  Outcome outcome = forward("nano", 3)(backend);
  const Outcome second = forward("nano", 3)(backend);
  outcome.values.insert(outcome.values.end(), second.values.begin(), second.values.end());
  return outcome;
}

Outcome traced_forward(const Backend& backend) {
  TraceRecorder trace;
  ForwardOptions options = all_rows();
  options.trace = &trace;
  Sequence sequence(backend, pack("nano"), 5);
  sequence.feed(some_tokens(5, 256), options);
  return std::move(sequence).outcome();
}

// The logits are the same wherever they come from: what the call says of itself counts.
Outcome executed_backends(const Backend& backend) {
  std::vector<BackendId> executed;
  ForwardOptions options = all_rows();
  options.executed = &executed;
  Sequence sequence(backend, pack("nano"), 3);
  sequence.feed(some_tokens(3, 256), options);
  Outcome outcome;
  for (const BackendId id : executed) outcome.add(static_cast<double>(id));
  return outcome;
}

Outcome past_the_end(const Backend& backend) {
  Sequence sequence(backend, pack("nano"), 4);
  sequence.feed(some_tokens(4, 256));
  sequence.feed({7});
  return std::move(sequence).outcome();
}

Outcome no_tokens(const Backend& backend) {
  Sequence sequence(backend, pack("nano"), 4);
  sequence.feed({});
  return std::move(sequence).outcome();
}

Outcome other_tokens_after_rollback(const Backend& backend) {
  Sequence sequence(backend, pack("nano"), 8);
  sequence.feed(some_tokens(6, 256));
  sequence.rollback(2);
  sequence.feed({200, 201, 202});
  sequence.feed({203});
  return std::move(sequence).outcome();
}

// nano without the key of rope_theta.
Outcome without_rope_theta(const Backend&) {
  const auto bytes = pack("nano").file_bytes();
  std::string file(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const std::size_t key = file.find("qwen3moe.rope.freq_base");
  CHECK(key != std::string::npos);
  file.replace(key, 8, "otherone");
  const auto path = temporary("without_rope_theta.gguf");
  std::ofstream(path, std::ios::binary) << file;
  Outcome outcome;
  const auto model = Model::load(path);
  if (model) {
    outcome.add(model->config().rope_theta);
  } else {
    outcome.errors = error_kind_name(model.error().kind);
  }
  std::filesystem::remove(path);
  return outcome;
}

LayerShape block_shape() {
  LayerShape shape;
  shape.hidden_size = 512;
  shape.moe_intermediate_size = 256;
  shape.num_experts = 8;
  shape.num_experts_per_tok = 2;
  shape.gate_proj = shape.up_proj = TensorType::kQ4_K;
  shape.down_proj = TensorType::kQ6_K;
  return shape;
}

// One MoE block, as layer 0; all tokens alike when `alike`.
Probe moe(const LayerShape& shape, std::size_t tokens, bool alike = false) {
  return [=](const Backend& backend) {
    const OwnedLayer layer = make_layer(shape, 21);
    Matrix<double> x(tokens, shape.hidden_size);
    for (std::size_t t = 0; t < tokens; ++t) {
      SeededRandom random(alike ? 22 : 22 + t);
      for (double& value : x.row(t)) value = static_cast<float>(random.normal());
    }
    Matrix<double> y(tokens, shape.hidden_size);
    Outcome outcome;
    outcome.add(backend.moe_ffn_forward_layer(layer.config, layer.view(), 0, 0,
                                              std::as_const(x).view(), {}, y.view()));
    outcome.add(std::as_const(y).view());
    return outcome;
  };
}

Probe moe_with(TensorType gate, TensorType down) {
  LayerShape shape = block_shape();
  shape.gate_proj = shape.up_proj = gate;
  shape.down_proj = down;
  return moe(shape, 5);
}

// Decoding, a call of more tokens than any before, decoding.
Outcome decode_around_a_longer_call(const Backend& backend) {
  Sequence sequence(backend, pack("nano"), 16);
  sequence.feed({3});
  sequence.feed({5});
  sequence.feed(some_tokens(6, 256));
  sequence.feed({7});
  return std::move(sequence).outcome();
}

// More positions than any device has memory for; hosts have none of their own to refuse them with.
Outcome too_many_positions(const Backend& backend) {
  constexpr std::size_t kPositions = std::size_t{1} << 30;
  Outcome outcome;
  if (backend.id() != BackendId::kCuda) return outcome;
  SynthOptions options = synth_preset("nano").value();
  options.config.max_position_embeddings = kPositions;
  const auto path = temporary("many_positions.gguf");
  CHECK(write_synthetic_model(options, path));
  const Model model = Model::load(path).value();
  std::filesystem::remove(path);
  const auto session = backend.open_session(model, kPositions);
  if (!session) outcome.errors = session.error().where;
  return outcome;
}

}  // namespace

std::vector<FaultProbe> model_probes() {
  std::vector<FaultProbe> probes = {
      {"F74", forward_twice},
      {"F87", executed_backends},
      {"F102", [](const Backend& backend) { return forward_of(backend, wide_heads(), 4); }},
      {"F101", [](const Backend& backend) { return forward_of(backend, huge_keys(), 3); }},
      {"F103", without_rope_theta},
      {"F106", forward("nano", 3)},
      {"F107", past_the_end},
      {"F112", moe_with(TensorType::kQ4_K, TensorType::kQ4_K)},
      {"F113", moe_with(TensorType::kQ5_K, TensorType::kQ6_K)},
      {"F117", traced_forward},
      {"F118", moe(block_shape(), 5)},
      {"F119", moe(block_shape(), 24, true)},
      {"F122", other_tokens_after_rollback},
      {"F124", no_tokens},
      {"F125", forward("mixed", 2)},
      {"F98", moe(block_shape(), 3)},
      {"F64", forward("kjv-moe-7m", 10)},
      {"F84", forward("nano", 5)},
      {"F85", decode_around_a_longer_call},
      {"F86", forward("nano", 5)},
      {"F130", decode_around_a_longer_call},
      {"F131", too_many_positions},
  };
  for (const char* id : {"F13", "F14", "F15", "F16", "F17", "F18", "F19", "F20", "F21", "F107a"}) {
    probes.push_back({id, moe(block_shape(), 24)});
  }
  for (const char* id : {"F22", "F38", "F39", "F44", "F51", "F58", "F59", "F60", "F69", "F71",
                         "F72", "F73", "F121"}) {
    probes.push_back({id, forward("nano", 5)});
  }
  return probes;
}

}  // namespace refute
