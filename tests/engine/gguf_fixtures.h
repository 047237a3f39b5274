// Files for the tests of the container and the model: temporary paths, files assembled field by
// field (also such as no writer writes), and existing files taken apart and put together again.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/gguf.h"
#include "engine/synth.h"

namespace refute {

// A path in the test's temporary folder, removed afterwards.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& name)
      : path_(std::filesystem::path(testing::TempDir()) /
              (std::to_string(::getpid()) + "_" + name)) {}
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }

  const std::filesystem::path& path() const { return path_; }
  void write(const std::string& bytes) const {
    // Some file systems flush a file that is truncated and rewritten, and not a new one.
    std::filesystem::remove(path_);
    std::ofstream(path_, std::ios::binary | std::ios::trunc) << bytes;
  }
  std::string read() const {
    std::ifstream in(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  }

 private:
  std::filesystem::path path_;
};

template <typename T>
std::string raw(T value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

inline std::string raw_string(const std::string& text) {
  return raw(std::uint64_t{text.size()}) + text;
}

// A file field by field; any of them may be wrong. Starts as a valid file of two F32 tensors.
struct RawGguf {
  struct Tensor {
    std::string name;
    std::vector<std::uint64_t> dimensions;  // Innermost first, as stored.
    std::uint32_t type = 0;
    std::uint64_t offset = 0;
    std::optional<std::uint32_t> num_dimensions;
  };

  std::string magic = "GGUF";
  std::uint32_t version = 3;
  std::optional<std::uint64_t> tensor_count;
  std::optional<std::uint64_t> value_count;
  std::vector<std::string> values;  // Key, value type and value of each, as stored.
  std::vector<Tensor> tensors = {{"a", {4, 2}, 0, 0, {}}, {"b", {3}, 0, 32, {}}};
  std::size_t alignment = 32;
  std::size_t data_bytes = 64;

  std::string bytes() const {
    std::string file = magic + raw(version) + raw(tensor_count.value_or(tensors.size())) +
                       raw(value_count.value_or(values.size()));
    for (const std::string& value : values) file += value;
    for (const Tensor& tensor : tensors) {
      file += raw_string(tensor.name);
      file +=
          raw(tensor.num_dimensions.value_or(static_cast<std::uint32_t>(tensor.dimensions.size())));
      for (const std::uint64_t dimension : tensor.dimensions) file += raw(dimension);
      file += raw(tensor.type) + raw(tensor.offset);
    }
    file.resize((file.size() + alignment - 1) / alignment * alignment);
    return file + std::string(data_bytes, '\0');
  }
};

// A file taken apart, to be changed and written again.
struct EditableGguf {
  struct Tensor {
    std::string name;
    TensorType type;
    std::vector<std::size_t> shape;
    std::vector<std::byte> data;  // Cut off or filled with zeros to what type and shape say.
  };
  std::vector<std::pair<std::string, GgufValue>> values;
  std::vector<Tensor> tensors;

  static EditableGguf read(const std::filesystem::path& path) {
    const Result<GgufFile> file = GgufFile::open(path);
    CHECK(file.has_value());
    EditableGguf editable;
    editable.values = file->metadata();
    for (const GgufTensor& tensor : file->tensors()) {
      editable.tensors.push_back(
          {tensor.name, tensor.type, tensor.shape, {tensor.data.begin(), tensor.data.end()}});
    }
    return editable;
  }

  void write(const std::filesystem::path& path) const {
    GgufWriter writer;
    for (const auto& [key, value] : values) writer.add_value(key, value);
    for (const Tensor& tensor : tensors) {
      writer.add_tensor(tensor.name, tensor.type, tensor.shape);
    }
    CHECK(writer.begin(path).has_value());
    for (const Tensor& tensor : tensors) {
      std::size_t bytes = row_bytes(tensor.type, tensor.shape.back());
      for (std::size_t i = 0; i + 1 < tensor.shape.size(); ++i) bytes *= tensor.shape[i];
      std::vector<std::byte> data = tensor.data;
      data.resize(bytes);
      CHECK(writer.append(data).has_value());
    }
    CHECK(writer.finish().has_value());
  }

  void remove_value(const std::string& key) {
    std::erase_if(values, [&](const auto& entry) { return entry.first == key; });
  }
  void set_value(const std::string& key, GgufValue value) {
    remove_value(key);
    values.emplace_back(key, std::move(value));
  }
  Tensor& tensor(const std::string& name) {
    const auto found = std::ranges::find(tensors, name, &Tensor::name);
    CHECK(found != tensors.end());
    return *found;
  }
  void remove_tensor(const std::string& name) {
    std::erase_if(tensors, [&](const Tensor& tensor) { return tensor.name == name; });
  }
};

// One layer, two experts, 32 wide, of Q8_0 and F32: a file of about 25 kB.
inline SynthOptions smallest_model() {
  SynthOptions options;
  options.name = "smallest";
  options.config.hidden_size = 32;
  options.config.num_hidden_layers = 1;
  options.config.num_attention_heads = 2;
  options.config.num_key_value_heads = 1;
  options.config.head_dim = 16;
  options.config.num_experts = 2;
  options.config.num_experts_per_tok = 1;
  options.config.moe_intermediate_size = 32;
  options.config.vocab_size = 8;
  options.config.max_position_embeddings = 64;
  options.config.rms_norm_eps = 1e-6f;
  options.config.rope_theta = 10000.0;
  options.embed_tokens = TensorType::kQ8_0;
  options.lm_head = TensorType::kF32;
  SynthLayerTypes layer;
  layer.q_proj = layer.k_proj = layer.v_proj = layer.o_proj = TensorType::kQ8_0;
  layer.gate_proj = layer.up_proj = layer.down_proj = TensorType::kQ8_0;
  options.layers = {layer};
  options.num_threads = 1;
  return options;
}

// As smallest_model, 256 wide and each quantized type somewhere.
inline SynthOptions mixed_model() {
  SynthOptions options = smallest_model();
  options.name = "mixed";
  options.config.hidden_size = 256;
  options.config.num_attention_heads = 4;
  options.config.num_key_value_heads = 2;
  options.config.head_dim = 64;
  options.config.moe_intermediate_size = 256;
  options.embed_tokens = TensorType::kQ4_K;
  options.lm_head = TensorType::kQ6_K;
  SynthLayerTypes& layer = options.layers[0];
  layer.k_proj = TensorType::kF16;
  layer.v_proj = TensorType::kBF16;
  layer.gate_proj = TensorType::kQ4_K;
  layer.up_proj = TensorType::kQ5_K;
  layer.down_proj = TensorType::kQ6_K;
  return options;
}

inline void write_model(const SynthOptions& options, const std::filesystem::path& path) {
  const Result<void> written = write_synthetic_model(options, path);
  CHECK(written.has_value());
}

}  // namespace refute
