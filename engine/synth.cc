#include "engine/synth.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <optional>
#include <thread>

#include "engine/gguf.h"
#include "engine/gguf_format.h"
#include "engine/model_config.h"
#include "engine/synth_blocks.h"
#include "engine/synth_metadata.h"
#include "kernels/check.h"
#include "kernels/cpu/context.h"

namespace refute {
namespace {

struct LayerWeightName {
  std::string_view name;
  TensorRole role;
  TensorType SynthLayerTypes::*member;
};
constexpr std::array<LayerWeightName, 8> kLayerWeights = {{
    {"q_proj", TensorRole::kQProj, &SynthLayerTypes::q_proj},
    {"k_proj", TensorRole::kKProj, &SynthLayerTypes::k_proj},
    {"v_proj", TensorRole::kVProj, &SynthLayerTypes::v_proj},
    {"o_proj", TensorRole::kOProj, &SynthLayerTypes::o_proj},
    {"router", TensorRole::kRouter, &SynthLayerTypes::router},
    {"gate_proj", TensorRole::kGateProj, &SynthLayerTypes::gate_proj},
    {"up_proj", TensorRole::kUpProj, &SynthLayerTypes::up_proj},
    {"down_proj", TensorRole::kDownProj, &SynthLayerTypes::down_proj},
}};

// Deviations that keep every stage's values of order 1 and the router's choice decided.
double deviation(const Config& config, TensorRole role) {
  const auto inverse_root = [](std::size_t n) { return 1.0 / std::sqrt(static_cast<double>(n)); };
  const double per_hidden = inverse_root(config.hidden_size);
  switch (role) {
    case TensorRole::kEmbedTokens:
      return config.tie_word_embeddings ? 2.0 * per_hidden : 1.0;
    case TensorRole::kLmHead:
      return 2.0 * per_hidden;
    case TensorRole::kOProj:
      return inverse_root(config.num_attention_heads * config.head_dim);
    case TensorRole::kRouter:
      return 1.5 * per_hidden;
    case TensorRole::kDownProj:
      return 2.0 * inverse_root(config.moe_intermediate_size);
    default:
      return per_hidden;
  }
}

Result<void> check_tensor(const SynthOptions& options, const TensorPlace& place) {
  const TensorTypeInfo& type = tensor_type_info(synth_type(options, place));
  const std::string where = "synthetic model: tensor " + place.name();
  if (!type.is_weight || (is_norm(place.role) && type.is_quantized)) {
    return Error{ErrorKind::kUnsupported, where,
                 is_norm(place.role) ? "F32, F16 or BF16" : "one of " + weight_types_text(),
                 std::string(type.name)};
  }
  const std::size_t columns = tensor_shape(options.config, place.role).back();
  if (columns % type.block_size != 0) {
    return Error{ErrorKind::kInvalidShape, where,
                 "columns in multiples of " + std::to_string(type.block_size) + " for " +
                     std::string(type.name),
                 std::to_string(columns)};
  }
  return {};
}

Result<void> check_options(const SynthOptions& options) {
  Result<void> checked = check_config(options.config, "synthetic model");
  if (!checked) return checked.error();
  if (options.layers.size() != options.config.num_hidden_layers) {
    return Error{ErrorKind::kInvalidShape, "synthetic model: types of layers",
                 std::to_string(options.config.num_hidden_layers) + " layers",
                 std::to_string(options.layers.size())};
  }
  for (const TensorPlace& place : model_tensors(options.config)) {
    checked = check_tensor(options, place);
    if (!checked) return checked.error();
  }
  return {};
}

// Makes tensors in pieces of whole rows and hands them to the writer.
class TensorStream {
 public:
  TensorStream(const SynthOptions& options, GgufWriter& writer, const SynthProgress& progress)
      : options_(options),
        writer_(writer),
        progress_(progress),
        total_(writer.tensor_bytes()),
        threads_(options.num_threads > 0 ? options.num_threads
                                         : std::max(1u, std::thread::hardware_concurrency())) {}

  Result<void> write(const TensorPlace& place) {
    const TensorType type = synth_type(options_, place);
    const std::vector<std::size_t> shape = tensor_shape(options_.config, place.role);
    const std::size_t bytes_per_row = row_bytes(type, shape.back());
    std::size_t rows = 1;
    for (std::size_t i = 0; i + 1 < shape.size(); ++i) rows *= shape[i];
    const std::size_t step = std::max<std::size_t>(1, kPieceBytes / bytes_per_row);
    for (std::size_t begin = 0; begin < rows; begin += step) {
      const std::size_t end = std::min(begin + step, rows);
      piece_.resize((end - begin) * bytes_per_row);
      fill(place, type, begin, end);
      const Result<void> appended = writer_.append(piece_);
      if (!appended) return appended.error();
      written_ += piece_.size();
      if (progress_) progress_(written_, total_);
    }
    return {};
  }

 private:
  static constexpr std::size_t kPieceBytes = std::size_t{4} << 20;
  static constexpr std::size_t kRowsPerTask = 16;

  // Rows [begin, end) of the tensor into piece_.
  void fill(const TensorPlace& place, TensorType type, std::size_t begin, std::size_t end) {
    const std::string name = place.name();
    const double standard_deviation = deviation(options_.config, place.role);
    const std::size_t bytes_per_row = piece_.size() / (end - begin);
    threads_.parallel_for(end - begin, kRowsPerTask, [&](std::size_t from, std::size_t to) {
      for (std::size_t i = from; i < to; ++i) {
        RowRandom random(options_.seed, name, begin + i);
        const std::span row = std::span(piece_).subspan(i * bytes_per_row, bytes_per_row);
        if (is_norm(place.role)) {
          fill_norm_row(type, random, row);
        } else {
          fill_weight_row(type, standard_deviation, random, row);
        }
      }
    });
  }

  const SynthOptions& options_;
  GgufWriter& writer_;
  const SynthProgress& progress_;
  std::size_t total_;
  std::size_t written_ = 0;
  cpu::ThreadPool threads_;
  std::vector<std::byte> piece_;
};

std::string weight_names() {
  std::string names = "embed_tokens, lm_head, norms";
  for (const LayerWeightName& weight : kLayerWeights) names += ", " + std::string(weight.name);
  return names + " (one layer's: 3.down_proj)";
}

}  // namespace

Result<void> write_synthetic_model(const SynthOptions& options, const std::filesystem::path& path,
                                   const SynthProgress& progress) {
  Result<void> done = check_options(options);
  if (!done) return done.error();
  GgufWriter writer;
  add_synth_metadata(options, writer);
  const std::vector<TensorPlace> places = model_tensors(options.config);
  for (const TensorPlace& place : places) {
    writer.add_tensor(place.name(), synth_type(options, place),
                      tensor_shape(options.config, place.role));
  }
  done = writer.begin(path);
  if (!done) return done.error();
  TensorStream stream(options, writer, progress);
  for (const TensorPlace& place : places) {
    done = stream.write(place);
    if (!done) return done.error();
  }
  return writer.finish();
}

TensorType synth_type(const SynthOptions& options, TensorPlace place) {
  if (is_norm(place.role)) return options.norms;
  if (place.role == TensorRole::kEmbedTokens) return options.embed_tokens;
  if (place.role == TensorRole::kLmHead) return options.lm_head;
  CHECK(place.layer < options.layers.size());
  const auto weight = std::ranges::find(kLayerWeights, place.role, &LayerWeightName::role);
  CHECK(weight != kLayerWeights.end());
  return options.layers[place.layer].*weight->member;
}

Result<void> set_synth_type(SynthOptions& options, std::string_view weight, TensorType type) {
  if (weight == "embed_tokens") {
    options.embed_tokens = type;
    return {};
  }
  if (weight == "lm_head") {
    options.lm_head = type;
    return {};
  }
  if (weight == "norms") {
    options.norms = type;
    return {};
  }
  std::optional<std::size_t> layer;
  std::string_view name = weight;
  if (const std::size_t dot = weight.find('.'); dot != std::string_view::npos) {
    std::size_t number = 0;
    const char* const end = weight.data() + dot;
    const auto [stop, status] = std::from_chars(weight.data(), end, number);
    if (status == std::errc() && stop == end) {
      layer = number;
      name = weight.substr(dot + 1);
    }
  }
  const auto found = std::ranges::find(kLayerWeights, name, &LayerWeightName::name);
  if (found == kLayerWeights.end()) {
    return Error{ErrorKind::kUnsupported, "type of a synthetic weight", "one of " + weight_names(),
                 quoted_name(weight)};
  }
  if (layer && *layer >= options.layers.size()) {
    return Error{ErrorKind::kInvalidShape, "type of a synthetic weight " + quoted_name(weight),
                 "a layer below " + std::to_string(options.layers.size()), std::to_string(*layer)};
  }
  for (std::size_t i = 0; i < options.layers.size(); ++i) {
    if (!layer || *layer == i) options.layers[i].*found->member = type;
  }
  return {};
}

}  // namespace refute
