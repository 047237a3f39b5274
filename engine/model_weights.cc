#include "engine/model_weights.h"

#include <cmath>
#include <utility>

#include "engine/gguf_format.h"

namespace refute {
namespace {

// Writers drop or keep outer dimensions of 1: [1, 256] and [256] hold the same rows.
std::span<const std::size_t> without_outer_ones(std::span<const std::size_t> shape) {
  while (shape.size() > 1 && shape.front() == 1) shape = shape.subspan(1);
  return shape;
}

bool same_shape(std::span<const std::size_t> a, std::span<const std::size_t> b) {
  return std::ranges::equal(without_outer_ones(a), without_outer_ones(b));
}

bool may_hold(TensorRole role, const TensorTypeInfo& type) {
  return type.is_weight && !(is_norm(role) && type.is_quantized);
}

}  // namespace

WeightFinder::WeightFinder(const GgufFile& file, const Config& config)
    : file_(file), config_(config) {
  for (const GgufTensor& tensor : file.tensors()) entries_[tensor.name] = {&tensor, false};
}

WeightView WeightFinder::matrix(TensorRole role, std::size_t layer) {
  const GgufTensor* const tensor = find(role, layer);
  if (tensor == nullptr) return {};
  const std::vector<std::size_t> shape = tensor_shape(config_, role);
  const WeightView view{tensor->type, shape[0], shape[1], tensor->data.data()};
  matrices_.push_back({tensor->name, view, 0});
  return view;
}

ExpertStack WeightFinder::experts(TensorRole role, std::size_t layer) {
  const GgufTensor* const tensor = find(role, layer);
  if (tensor == nullptr) return {};
  const std::vector<std::size_t> shape = tensor_shape(config_, role);
  const WeightView rows{tensor->type, shape[0] * shape[1], shape[2], tensor->data.data()};
  matrices_.push_back({tensor->name, rows, shape[1]});
  return {tensor->type, shape[0], shape[1], shape[2], tensor->data};
}

std::vector<float> WeightFinder::norm(TensorRole role, std::size_t layer) {
  const GgufTensor* const tensor = find(role, layer);
  if (tensor == nullptr) return {};
  std::vector<float> values(tensor->num_elements());
  dequantize_row(tensor->type, tensor->data.data(), std::span<float>(values));
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(values[i])) continue;
    fail(ErrorKind::kNonFinite, tensor->name, "finite elements",
         "NaN or Inf in element " + std::to_string(i));
    return {};
  }
  return values;
}

Result<void> WeightFinder::check_nothing_left() const {
  for (const GgufTensor& tensor : file_.tensors()) {
    if (entries_.at(tensor.name).used) continue;
    return Error{ErrorKind::kUnsupported,
                 file_.path().string() + ": tensor " + quoted_name(tensor.name),
                 "only the tensors of " + std::string(kArchitecture) + " with " +
                     std::to_string(config_.num_hidden_layers) + " layers",
                 "a tensor that this architecture does not have"};
  }
  return {};
}

const GgufTensor* WeightFinder::find(TensorRole role, std::size_t layer) {
  if (error_) return nullptr;
  const std::string name = gguf_tensor_name(role, layer);
  const std::vector<std::size_t> shape = tensor_shape(config_, role);
  const auto entry = entries_.find(name);
  if (entry == entries_.end()) {
    fail(ErrorKind::kMalformed, name, "shape " + shape_text(shape), "no such tensor");
    return nullptr;
  }
  const GgufTensor& tensor = *entry->second.tensor;
  if (!same_shape(tensor.shape, shape)) {
    fail(ErrorKind::kInvalidShape, name, "shape " + shape_text(shape), tensor.shape_text());
    return nullptr;
  }
  const TensorTypeInfo& type = tensor_type_info(tensor.type);
  if (!may_hold(role, type)) {
    fail(ErrorKind::kUnsupported, name,
         is_norm(role) ? "a norm in F32, F16 or BF16" : "one of " + weight_types_text(),
         std::string(type.name));
    return nullptr;
  }
  std::size_t bytes = row_bytes(tensor.type, shape.back());
  for (std::size_t i = 0; i + 1 < shape.size(); ++i) bytes *= shape[i];
  if (tensor.data.size() != bytes) {
    fail(ErrorKind::kInvalidShape, name, std::to_string(bytes) + " bytes",
         std::to_string(tensor.data.size()));
    return nullptr;
  }
  entry->second.used = true;
  bytes_ += bytes;
  return &tensor;
}

void WeightFinder::fail(ErrorKind kind, const std::string& name, std::string expected,
                        std::string found) {
  error_ = Error{kind, file_.path().string() + ": tensor " + quoted_name(name), std::move(expected),
                 std::move(found)};
}

}  // namespace refute
