// The oracle packs of tests/data and the embedded model, and models with some bytes changed.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/backend.h"
#include "engine/model.h"
#include "falsifiers/falsifier.h"
#include "falsifiers/oracle_pack.h"
#include "kernels/check.h"
#include "kernels/cpu/context.h"

namespace refute {

inline constexpr std::array kPackNames = {"nano", "tiny", "gqa", "mixed", "kjv-moe-7m"};

inline std::string pack_path(const std::string& name, const std::string& ending) {
  const std::string folder = name == "kjv-moe-7m"
                                 ? std::string(REFUTE_SOURCE_DIR) + "/contracts/subjects/"
                                 : std::string(REFUTE_TEST_DATA) + "/packs/";
  return folder + name + ending;
}

// Aborts when the file does not load: no test can go on without it.
inline Model load_model(const std::filesystem::path& path) {
  auto model = Model::load(path);
  if (!model) ADD_FAILURE() << model.error().message();
  return std::move(model).value();
}

struct LoadedPack {
  explicit LoadedPack(const std::string& name)
      : model(load_model(pack_path(name, ".gguf"))),
        pack(OraclePack::load(pack_path(name, ".expected.gguf"), model.config()).value()) {}

  Model model;
  OraclePack pack;
};

inline std::unique_ptr<Backend> cpu_backend() {
  return make_cpu_backend(std::move(cpu::Context::create(2)).value());
}
inline std::unique_ptr<Backend> exact_oracle() {
  return make_oracle_backend(ActivationScheme::kExact);
}

// With the default gates.
inline Verdict run(const FalsifierInfo& info, const Backend& backend, const LoadedPack& loaded,
                   std::uint64_t seed = 0) {
  Criterion criterion;
  criterion.seed = seed;
  return info.falsify({backend, &loaded.model, &loaded.pack}, criterion);
}

// Whether the verdict is a refutation by `metric`, and its reason names `place`.
inline testing::AssertionResult refuted_by(const Verdict& verdict, std::string_view metric,
                                           std::string_view place) {
  const auto failed = [&](const MetricReading& reading) {
    return reading.metric == metric && !reading.passed();
  };
  if (verdict.kind == VerdictKind::kRefuted && std::ranges::any_of(verdict.metrics, failed) &&
      verdict.reason.find(place) != std::string::npos) {
    return testing::AssertionSuccess();
  }
  return testing::AssertionFailure() << verdict_name(verdict.kind) << ": " << verdict.reason;
}

inline testing::AssertionResult held(const Verdict& verdict) {
  if (verdict.held() && verdict.cases_run > 0) return testing::AssertionSuccess();
  return testing::AssertionFailure() << verdict_name(verdict.kind) << ": " << verdict.reason;
}

// A model file with some bytes changed, for the length of a test.
class ChangedModel {
 public:
  template <typename Change>
  ChangedModel(const Model& original, const Change& change)
      : path_(std::filesystem::path(testing::TempDir()) /
              (std::string(testing::UnitTest::GetInstance()->current_test_info()->name()) + "." +
               std::to_string(reinterpret_cast<std::uintptr_t>(this)) + ".gguf")) {
    std::vector<std::byte> bytes(original.file_bytes().begin(), original.file_bytes().end());
    change(bytes);
    std::ofstream file(path_, std::ios::binary);
    file.write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
    file.close();
    model_ = std::make_unique<Model>(load_model(path_));
  }
  ~ChangedModel() {
    model_.reset();
    std::filesystem::remove(path_);
  }
  ChangedModel(const ChangedModel&) = delete;
  ChangedModel& operator=(const ChangedModel&) = delete;

  const Model& model() const { return *model_; }

 private:
  std::filesystem::path path_;
  std::unique_ptr<Model> model_;
};

// Replaces the float32 that follows `key` and its type in the metadata.
inline auto set_metadata_float(std::string_view key, float value) {
  return [key = std::string(key), value](std::vector<std::byte>& bytes) {
    const auto* text = reinterpret_cast<const std::byte*>(key.data());
    const auto found = std::search(bytes.begin(), bytes.end(), text, text + key.size());
    CHECK(found != bytes.end());
    std::memcpy(&*found + key.size() + 4, &value, sizeof(value));
  };
}
// F52: rope theta 1e4.
inline auto wrong_rope_theta() { return set_metadata_float("qwen3moe.rope.freq_base", 1e4f); }

// Bytes of the file before `data`, which is the model's.
inline std::size_t file_offset(const Model& model, const std::byte* data) {
  return static_cast<std::size_t>(data - model.file_bytes().data());
}

}  // namespace refute
