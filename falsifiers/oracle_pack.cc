#include "falsifiers/oracle_pack.h"

#include <charconv>
#include <cmath>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>

#include "engine/gguf.h"
#include "falsifiers/traced_run.h"

namespace refute {
namespace {

// Trace points that a pack need not hold, because no pack does.
bool is_left_out(TracePoint point) {
  switch (point) {
    case TracePoint::kQ:
    case TracePoint::kK:
    case TracePoint::kQNorm:
    case TracePoint::kKNorm:
    case TracePoint::kExpertGate:
    case TracePoint::kExpertUp:
    case TracePoint::kExpertSwiglu:
    case TracePoint::kExpertOut:
      return true;
    default:
      return false;
  }
}

std::optional<std::size_t> parse_number(std::string_view text) {
  std::size_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

// "blk.3.moe_out", "logits".
std::optional<TraceSite> parse_site(std::string_view name, const Config& config) {
  TraceSite site;
  std::string_view point_name = name;
  if (name.starts_with("blk.")) {
    const std::size_t dot = name.find('.', 4);
    if (dot == std::string_view::npos) return std::nullopt;
    const auto layer = parse_number(name.substr(4, dot - 4));
    if (!layer || *layer >= config.num_hidden_layers) return std::nullopt;
    site.layer = *layer;
    point_name = name.substr(dot + 1);
  }
  const auto point = parse_trace_point(point_name);
  if (!point) return std::nullopt;
  site.point = *point;
  // Each site has one spelling ("blk.0.logits" and "moe_out" are none).
  return site.name() == name ? std::optional(site) : std::nullopt;
}

template <typename T>
std::vector<T> read_elements(std::span<const std::byte> bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}

class PackReader {
 public:
  PackReader(const GgufFile& file, const Config& config) : file_(file), config_(config) {}

  Error malformed(std::string_view tensor, std::string expected, std::string found) const {
    return {ErrorKind::kMalformed, file_.path().string() + " tensor " + std::string(tensor),
            std::move(expected), std::move(found)};
  }

  // Token ids of the vocabulary, at least `least` of them.
  Result<std::vector<std::int32_t>> read_tokens(const GgufTensor& tensor, std::size_t least) const {
    if (tensor.type != TensorType::kI32 || tensor.shape.size() != 1) {
      return malformed(tensor.name, "I32 of one dimension", type_and_shape(tensor));
    }
    std::vector<std::int32_t> tokens = read_elements<std::int32_t>(tensor.data);
    if (tokens.size() < least) {
      return malformed(tensor.name, "at least " + std::to_string(least) + " tokens",
                       std::to_string(tokens.size()));
    }
    for (const std::int32_t token : tokens) {
      if (token < 0 || static_cast<std::size_t>(token) >= config_.vocab_size) {
        return malformed(tensor.name, "ids below " + std::to_string(config_.vocab_size),
                         std::to_string(token));
      }
    }
    return tokens;
  }

  Result<TraceTensor> read_trace(const GgufTensor& tensor, TracePoint point,
                                 std::size_t num_tokens) const {
    const TraceShape shape = trace_shape(config_, point, num_tokens);
    const bool is_index = point == TracePoint::kRouterIndex;
    const TensorType type = is_index ? TensorType::kI32 : TensorType::kF32;
    if (tensor.type != type || tensor.shape != std::vector{shape.rows, shape.columns}) {
      return malformed(tensor.name,
                       std::string(tensor_type_info(type).name) + " [" +
                           std::to_string(shape.rows) + ", " + std::to_string(shape.columns) + "]",
                       type_and_shape(tensor));
    }
    TraceTensor result;
    result.values = Matrix<double>(shape.rows, shape.columns);
    if (is_index) {
      result.element = TraceElement::kInt32;
      const auto ids = read_elements<std::int32_t>(tensor.data);
      for (std::size_t i = 0; i < ids.size(); ++i) {
        if (ids[i] < 0 || static_cast<std::size_t>(ids[i]) >= config_.num_experts) {
          return malformed(tensor.name, "experts below " + std::to_string(config_.num_experts),
                           std::to_string(ids[i]));
        }
        result.values.flat()[i] = static_cast<double>(ids[i]);
      }
      return result;
    }
    result.element = TraceElement::kFloat32;
    const auto values = read_elements<float>(tensor.data);
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (!std::isfinite(values[i])) {
        return malformed(tensor.name, "finite values",
                         std::to_string(values[i]) + " at element " + std::to_string(i));
      }
      result.values.flat()[i] = static_cast<double>(values[i]);
    }
    return result;
  }

 private:
  static std::string type_and_shape(const GgufTensor& tensor) {
    return std::string(tensor_type_info(tensor.type).name) + " " + tensor.shape_text();
  }

  const GgufFile& file_;
  const Config& config_;
};

}  // namespace

Result<OraclePack> OraclePack::load(const std::filesystem::path& path, const Config& config) {
  const auto file = GgufFile::open(path);
  if (!file) return file.error();
  const PackReader reader(*file, config);

  OraclePack pack;
  pack.path_ = path;
  const GgufTensor* tokens = file->find_tensor("tokens");
  if (tokens == nullptr) return reader.malformed("tokens", "to be there", "no such tensor");
  auto read_tokens = reader.read_tokens(*tokens, 1);
  if (!read_tokens) return read_tokens.error();
  pack.tokens_ = std::move(*read_tokens);
  if (pack.tokens_.size() > config.max_position_embeddings) {
    return reader.malformed(
        "tokens", "at most " + std::to_string(config.max_position_embeddings) + " positions",
        std::to_string(pack.tokens_.size()));
  }

  std::map<std::size_t, std::vector<std::int32_t>> windows;
  for (const GgufTensor& tensor : file->tensors()) {
    const std::string_view name = tensor.name;
    if (name == "tokens") continue;
    if (name == "greedy_tokens") {
      auto greedy = reader.read_tokens(tensor, 2);
      if (!greedy) return greedy.error();
      pack.greedy_ = GreedyExpectation{std::move(*greedy), 0, 0.0};
      continue;
    }
    if (name.starts_with("nll_window.")) {
      const auto number = parse_number(name.substr(std::string_view("nll_window.").size()));
      if (!number) return reader.malformed(name, "nll_window.NUMBER", tensor.name);
      auto window = reader.read_tokens(tensor, 2);
      if (!window) return window.error();
      windows[*number] = std::move(*window);
      continue;
    }
    const auto site = parse_site(name, config);
    if (!site) {
      return reader.malformed(name,
                              "tokens, greedy_tokens, nll_window.N or a trace point of one of " +
                                  std::to_string(config.num_hidden_layers) + " layers",
                              tensor.name);
    }
    auto trace = reader.read_trace(tensor, site->point, pack.tokens_.size());
    if (!trace) return trace.error();
    pack.tensors_.emplace(*site, std::move(*trace));
  }

  for (const TraceSite site : forward_order(config)) {
    if (!is_left_out(site.point) && pack.find(site) == nullptr) {
      return reader.malformed(site.name(), "to be there", "no such tensor");
    }
  }
  if (pack.greedy_) {
    const auto prompt_length = file->required_unsigned("oracle.greedy_prompt_length");
    if (!prompt_length) return prompt_length.error();
    if (*prompt_length == 0 || *prompt_length >= pack.greedy_->tokens.size()) {
      return reader.malformed(
          "greedy_tokens", "more tokens than oracle.greedy_prompt_length, which is positive",
          std::to_string(pack.greedy_->tokens.size()) + " and " + std::to_string(*prompt_length));
    }
    const auto margin = file->required_float("oracle.greedy_smallest_margin");
    if (!margin) return margin.error();
    pack.greedy_->prompt_length = *prompt_length;
    pack.greedy_->smallest_margin = *margin;
  }
  if (!windows.empty()) {
    const auto mean_nll = file->required_float("oracle.mean_nll");
    if (!mean_nll) return mean_nll.error();
    pack.nll_ = NllExpectation{{}, *mean_nll};
    for (auto& [number, window] : windows) pack.nll_->windows.push_back(std::move(window));
  }
  return pack;
}

const TraceTensor* OraclePack::find(TraceSite site) const {
  const auto entry = tensors_.find(site);
  return entry == tensors_.end() ? nullptr : &entry->second;
}

}  // namespace refute
