#include "engine/trace_file.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <limits>
#include <span>
#include <utility>

#include "engine/gguf.h"
#include "engine/gguf_names.h"
#include "kernels/check.h"

namespace refute {
namespace {

constexpr std::uint64_t kVersion = 1;
constexpr std::string_view kArchitectureName = "refute-trace";
constexpr std::size_t kMostLayers = 1u << 16;

namespace keys {
constexpr const char* kVersion = "trace.version";
constexpr const char* kSubject = "trace.subject";
constexpr const char* kModelSha256 = "trace.model_sha256";
constexpr const char* kBackend = "trace.backend";
constexpr const char* kDescription = "trace.backend_description";
constexpr const char* kBuildVersion = "trace.build_version";
constexpr const char* kTreeSha256 = "trace.tree_sha256";
constexpr const char* kRoutes = "trace.routes";
constexpr const char* kError = "trace.error";
constexpr const char* kChunk = "trace.tokens_per_call";
constexpr const char* kMissing = "trace.missing";  // Absent when nothing is.
// One element a capture, in the order of the tensors.
constexpr const char* kNames = "trace.capture.names";
constexpr const char* kFirstPositions = "trace.capture.first_positions";
constexpr const char* kNumTokens = "trace.capture.num_tokens";
constexpr const char* kReductions = "trace.capture.reductions";
constexpr const char* kLayouts = "trace.capture.layouts";
}  // namespace keys

TensorType type_of(TraceElement element) {
  switch (element) {
    case TraceElement::kFloat64:
      return TensorType::kF64;
    case TraceElement::kFloat32:
      return TensorType::kF32;
    case TraceElement::kInt32:
      return TensorType::kI32;
  }
  return TensorType::kF64;
}

template <typename Stored>
std::vector<std::byte> stored(std::span<const double> values) {
  std::vector<Stored> elements(values.size());
  std::ranges::transform(values, elements.begin(),
                         [](double value) { return static_cast<Stored>(value); });
  std::vector<std::byte> bytes(elements.size() * sizeof(Stored));
  std::memcpy(bytes.data(), elements.data(), bytes.size());
  return bytes;
}

std::vector<std::byte> stored(const TraceTensor& tensor) {
  switch (tensor.element) {
    case TraceElement::kFloat64:
      return stored<double>(tensor.values.flat());
    case TraceElement::kFloat32:
      return stored<float>(tensor.values.flat());
    case TraceElement::kInt32:
      return stored<std::int32_t>(tensor.values.flat());
  }
  return {};
}

template <typename Stored>
std::vector<double> read_values(std::span<const std::byte> bytes) {
  std::vector<Stored> elements(bytes.size() / sizeof(Stored));
  std::memcpy(elements.data(), bytes.data(), elements.size() * sizeof(Stored));
  return {elements.begin(), elements.end()};
}

class TraceReader {
 public:
  explicit TraceReader(const GgufFile& file) : file_(file) {}

  Result<TraceFile> read() {
    const std::string architecture = text_or_empty(gguf_keys::kArchitecture);
    if (architecture == kArchitecture) {
      return file_.key_error(ErrorKind::kMalformed, gguf_keys::kArchitecture,
                             "a trace (refute trace writes one) or an oracle pack",
                             "`" + architecture + "`, a model");
    }
    const bool expectations = architecture != kArchitectureName;
    if (auto tokens = read_tokens(); !tokens) return tokens.error();
    if (auto origin = expectations ? read_pack_origin() : read_origin(); !origin) {
      return origin.error();
    }
    for (const GgufTensor& tensor : file_.tensors()) {
      const std::string_view name = tensor.name;
      if (name == "tokens") continue;
      // Expectations of other kinds than trace points.
      if (expectations && (name == "greedy_tokens" || name.starts_with("nll_window."))) continue;
      if (auto read = read_capture(tensor); !read) return read.error();
    }
    if (trace_.tensors.empty()) {
      return malformed("trace points", "at least one", "none");
    }
    if (auto infos = expectations ? Result<void>{} : read_infos(); !infos) return infos.error();
    if (auto missing = read_missing(); !missing) return missing.error();
    for (const auto& [site, info] : trace_.captures) {
      if (auto ok = check_capture(site, info); !ok) return ok.error();
    }
    return std::move(trace_);
  }

 private:
  Error malformed(const std::string& tensor, std::string expected, std::string found) const {
    return {ErrorKind::kMalformed, file_.path().string() + " " + tensor, std::move(expected),
            std::move(found)};
  }

  Result<void> read_tokens() {
    const GgufTensor* tensor = file_.find_tensor("tokens");
    if (tensor == nullptr) return malformed("tensor tokens", "to be there", "no such tensor");
    if (tensor->type != TensorType::kI32 || tensor->shape.size() != 1) {
      return malformed("tensor tokens", "I32 of one dimension", tensor->shape_text());
    }
    if (tensor->num_elements() == 0) return malformed("tensor tokens", "at least one", "none");
    const std::vector<double> values = read_values<std::int32_t>(tensor->data);
    trace_.tokens.assign(values.size(), 0);
    std::ranges::transform(values, trace_.tokens.begin(),
                           [](double value) { return static_cast<std::int32_t>(value); });
    return {};
  }

  // Strings are copied where they are; a pack has none of them.
  std::string text_or_empty(std::string_view key) const {
    const GgufValue* value = file_.find_value(key);
    const auto* text = value == nullptr ? nullptr : std::get_if<std::string>(value);
    return text == nullptr ? "" : *text;
  }

  Result<void> read_pack_origin() {
    trace_.origin.backend = kExpectationsBackend;
    trace_.origin.subject = text_or_empty(gguf_keys::kName);
    trace_.origin.description = "expectations (" + text_or_empty("oracle.source") + ")";
    trace_.origin.routes = "own";
    return {};
  }

  Result<void> read_origin() {
    const auto version = file_.required_unsigned(keys::kVersion);
    if (!version) return version.error();
    if (*version != kVersion) {
      return file_.key_error(ErrorKind::kUnsupported, keys::kVersion, std::to_string(kVersion),
                             std::to_string(*version));
    }
    TraceOrigin& origin = trace_.origin;
    const std::pair<const char*, std::string*> texts[] = {
        {keys::kSubject, &origin.subject},      {keys::kModelSha256, &origin.model_sha256},
        {keys::kBackend, &origin.backend},      {keys::kDescription, &origin.description},
        {keys::kBuildVersion, &origin.version}, {keys::kTreeSha256, &origin.tree_sha256},
        {keys::kRoutes, &origin.routes},        {keys::kError, &origin.error},
    };
    for (const auto& [key, text] : texts) {
      auto value = file_.required_string(key);
      if (!value) return value.error();
      *text = *std::move(value);
    }
    const auto chunk = file_.required_unsigned(keys::kChunk);
    if (!chunk) return chunk.error();
    origin.chunk = *chunk;
    return {};
  }

  Result<void> read_capture(const GgufTensor& tensor) {
    const std::string where = "tensor " + tensor.name;
    const auto site = parse_trace_site(tensor.name);
    if (!site) return malformed(where, "the name of a trace point", tensor.name);
    const bool is_index = site->point == TracePoint::kRouterIndex;
    const bool right_type =
        is_index ? tensor.type == TensorType::kI32
                 : tensor.type == TensorType::kF32 || tensor.type == TensorType::kF64;
    if (!right_type || tensor.shape.size() != 2) {
      return malformed(where, std::string(is_index ? "I32" : "F32 or F64") + " of two dimensions",
                       std::string(tensor_type_info(tensor.type).name) + " " + tensor.shape_text());
    }
    TraceTensor read;
    std::vector<double> values;
    switch (tensor.type) {
      case TensorType::kI32:
        read.element = TraceElement::kInt32;
        values = read_values<std::int32_t>(tensor.data);
        break;
      case TensorType::kF32:
        read.element = TraceElement::kFloat32;
        values = read_values<float>(tensor.data);
        break;
      default:
        read.element = TraceElement::kFloat64;
        values = read_values<double>(tensor.data);
    }
    read.values = Matrix<double>(tensor.shape[0], tensor.shape[1], std::move(values));
    trace_.captures[*site].num_tokens = trace_.tokens.size();
    trace_.tensors.emplace(*site, std::move(read));
    return {};
  }

  template <typename T>
  Result<std::vector<T>> array(const char* key, std::size_t size) const {
    const GgufValue* value = file_.find_value(key);
    const auto* elements = value == nullptr ? nullptr : std::get_if<std::vector<T>>(value);
    const std::string expected = "an array of " + std::to_string(size);
    if (elements == nullptr) {
      return file_.key_error(value == nullptr ? ErrorKind::kMissingKey : ErrorKind::kMalformed, key,
                             expected, value == nullptr ? "no such key" : "another type");
    }
    if (elements->size() != size) {
      return file_.key_error(ErrorKind::kMalformed, key, expected,
                             std::to_string(elements->size()));
    }
    return *elements;
  }

  Result<void> read_infos() {
    const std::size_t size = trace_.tensors.size();
    const auto names = array<std::string>(keys::kNames, size);
    if (!names) return names.error();
    const auto first_positions = array<std::int64_t>(keys::kFirstPositions, size);
    if (!first_positions) return first_positions.error();
    const auto num_tokens = array<std::int64_t>(keys::kNumTokens, size);
    if (!num_tokens) return num_tokens.error();
    const auto reductions = array<std::string>(keys::kReductions, size);
    if (!reductions) return reductions.error();
    const auto layouts = array<std::string>(keys::kLayouts, size);
    if (!layouts) return layouts.error();
    std::map<TraceSite, CaptureInfo> captures;
    for (std::size_t i = 0; i < size; ++i) {
      const auto site = parse_trace_site((*names)[i]);
      if (!site || !trace_.tensors.contains(*site)) {
        return file_.key_error(ErrorKind::kMalformed, keys::kNames, "the name of a tensor",
                               (*names)[i]);
      }
      if ((*first_positions)[i] < 0 || (*num_tokens)[i] < 1) {
        return file_.key_error(ErrorKind::kMalformed, keys::kNumTokens,
                               "at least one token from position 0 on", (*names)[i]);
      }
      captures[*site] = {.first_position = static_cast<std::size_t>((*first_positions)[i]),
                         .num_tokens = static_cast<std::size_t>((*num_tokens)[i]),
                         .reduction = (*reductions)[i],
                         .layout = (*layouts)[i]};
      trace_.tensors.at(*site).first_position = captures[*site].first_position;
    }
    if (captures.size() != size) {
      return file_.key_error(ErrorKind::kMalformed, keys::kNames, "each tensor once",
                             "one of them twice");
    }
    trace_.captures = std::move(captures);
    return {};
  }

  Result<void> read_missing() {
    const GgufValue* value = file_.find_value(keys::kMissing);
    if (value == nullptr) return {};
    const auto* names = std::get_if<std::vector<std::string>>(value);
    if (names == nullptr) {
      return file_.key_error(ErrorKind::kMalformed, keys::kMissing, "an array of names",
                             "another type");
    }
    for (const std::string& name : *names) {
      const auto site = parse_trace_site(name);
      if (!site || trace_.tensors.contains(*site)) {
        return file_.key_error(ErrorKind::kMalformed, keys::kMissing,
                               "trace points that are not there", name);
      }
      trace_.missing.push_back(*site);
    }
    return {};
  }

  Result<void> check_capture(TraceSite site, const CaptureInfo& info) const {
    const std::size_t rows = trace_.tensors.at(site).values.rows();
    const std::size_t end = trace_.tokens.size();
    if (info.first_position > end || info.num_tokens > end - info.first_position) {
      return malformed(site.name(), "positions below the " + std::to_string(end) + " tokens",
                       capture_text(info));
    }
    if (info.reduction == kNoReduction && rows % info.num_tokens != 0) {
      return malformed(site.name(),
                       "rows for each of " + std::to_string(info.num_tokens) + " tokens",
                       std::to_string(rows));
    }
    return {};
  }

  const GgufFile& file_;
  TraceFile trace_;
};

}  // namespace

std::string capture_text(const CaptureInfo& info) {
  const std::string first = std::to_string(info.first_position);
  const std::string range =
      info.num_tokens == 1
          ? "token " + first
          : "tokens " + first + " to " + std::to_string(info.first_position + info.num_tokens - 1);
  return range + ", reduction " + info.reduction + ", " + info.layout;
}

std::optional<TraceSite> parse_trace_site(std::string_view name) {
  TraceSite site;
  std::string_view point_name = name;
  if (name.starts_with("blk.")) {
    const std::size_t dot = name.find('.', 4);
    if (dot == std::string_view::npos) return std::nullopt;
    const char* end = name.data() + dot;
    const auto layer = std::from_chars(name.data() + 4, end, site.layer);
    if (layer.ec != std::errc{} || layer.ptr != end || site.layer >= kMostLayers) {
      return std::nullopt;
    }
    point_name = name.substr(dot + 1);
  }
  const auto point = parse_trace_point(point_name);
  if (!point) return std::nullopt;
  site.point = *point;
  return site.name() == name ? std::optional(site) : std::nullopt;
}

TraceFile make_trace_file(TraceOrigin origin, std::vector<std::int32_t> tokens,
                          std::map<TraceSite, TraceTensor> tensors) {
  CHECK(!tokens.empty() && !tensors.empty());
  TraceFile trace{std::move(origin), std::move(tokens), std::move(tensors), {}, {}};
  for (const auto& [site, tensor] : trace.tensors) {
    CHECK(tensor.first_position == 0 && tensor.values.rows() % trace.tokens.size() == 0);
    trace.captures[site].num_tokens = trace.tokens.size();
  }
  return trace;
}

Result<void> write_trace_file(const TraceFile& trace, const std::filesystem::path& path) {
  GgufWriter writer;
  writer.add_value(std::string(gguf_keys::kArchitecture), std::string(kArchitectureName));
  writer.add_value(std::string(gguf_keys::kName), trace.origin.subject);
  writer.add_value(keys::kVersion, kVersion);
  writer.add_value(keys::kSubject, trace.origin.subject);
  writer.add_value(keys::kModelSha256, trace.origin.model_sha256);
  writer.add_value(keys::kBackend, trace.origin.backend);
  writer.add_value(keys::kDescription, trace.origin.description);
  writer.add_value(keys::kBuildVersion, trace.origin.version);
  writer.add_value(keys::kTreeSha256, trace.origin.tree_sha256);
  writer.add_value(keys::kRoutes, trace.origin.routes);
  writer.add_value(keys::kError, trace.origin.error);
  writer.add_value(keys::kChunk, std::uint64_t{trace.origin.chunk});
  if (!trace.missing.empty()) {
    std::vector<std::string> missing;
    for (const TraceSite site : trace.missing) missing.push_back(site.name());
    writer.add_value(keys::kMissing, missing);
  }
  std::vector<std::string> names;
  std::vector<std::int64_t> first_positions;
  std::vector<std::int64_t> num_tokens;
  std::vector<std::string> reductions;
  std::vector<std::string> layouts;
  for (const auto& [site, info] : trace.captures) {
    names.push_back(site.name());
    first_positions.push_back(static_cast<std::int64_t>(info.first_position));
    num_tokens.push_back(static_cast<std::int64_t>(info.num_tokens));
    reductions.push_back(info.reduction);
    layouts.push_back(info.layout);
  }
  writer.add_value(keys::kNames, names);
  writer.add_value(keys::kFirstPositions, first_positions);
  writer.add_value(keys::kNumTokens, num_tokens);
  writer.add_value(keys::kReductions, reductions);
  writer.add_value(keys::kLayouts, layouts);

  writer.add_tensor("tokens", TensorType::kI32, {trace.tokens.size()});
  for (const auto& [site, tensor] : trace.tensors) {
    writer.add_tensor(site.name(), type_of(tensor.element),
                      {tensor.values.rows(), tensor.values.columns()});
  }
  if (auto begun = writer.begin(path); !begun) return begun;
  if (auto ok = writer.append(std::as_bytes(std::span(trace.tokens))); !ok) return ok;
  for (const auto& [site, tensor] : trace.tensors) {
    if (auto ok = writer.append(stored(tensor)); !ok) return ok;
  }
  return writer.finish();
}

Result<TraceFile> read_trace_file(const std::filesystem::path& path) {
  const auto file = GgufFile::open(path);
  if (!file) return file.error();
  return TraceReader(*file).read();
}

}  // namespace refute
