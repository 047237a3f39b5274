#include "engine/gguf_format.h"

#include "kernels/check.h"

namespace refute {
namespace {

struct TypeId {
  TensorType type;
  std::uint32_t id;
};
constexpr std::array<TypeId, 9> kTypeIds = {{
    {TensorType::kF32, 0},
    {TensorType::kF16, 1},
    {TensorType::kBF16, 30},
    {TensorType::kQ8_0, 8},
    {TensorType::kQ4_K, 12},
    {TensorType::kQ5_K, 13},
    {TensorType::kQ6_K, 14},
    {TensorType::kI32, 26},
    {TensorType::kF64, 28},
}};

// Types of ggml that are not implemented here, to be named in errors.
struct ForeignType {
  std::uint32_t id;
  std::string_view name;
};
constexpr std::array<ForeignType, 25> kForeignTypes = {{
    {2, "Q4_0"},     {3, "Q4_1"},   {6, "Q5_0"},    {7, "Q5_1"},     {9, "Q8_1"},
    {10, "Q2_K"},    {11, "Q3_K"},  {15, "Q8_K"},   {16, "IQ2_XXS"}, {17, "IQ2_XS"},
    {18, "IQ3_XXS"}, {19, "IQ1_S"}, {20, "IQ4_NL"}, {21, "IQ3_S"},   {22, "IQ2_S"},
    {23, "IQ4_XS"},  {24, "I8"},    {25, "I16"},    {27, "I64"},     {29, "IQ1_M"},
    {34, "TQ1_0"},   {35, "TQ2_0"}, {39, "MXFP4"},  {40, "NVFP4"},   {41, "Q1_0"},
}};

}  // namespace

std::uint32_t ggml_type_id(TensorType type) {
  for (const TypeId& entry : kTypeIds) {
    if (entry.type == type) return entry.id;
  }
  CHECK(false);
  return 0;
}

std::optional<TensorType> tensor_type_of_id(std::uint32_t id) {
  for (const TypeId& entry : kTypeIds) {
    if (entry.id == id) return entry.type;
  }
  return std::nullopt;
}

std::string ggml_type_text(std::uint32_t id) {
  std::string text = "type id " + std::to_string(id);
  for (const ForeignType& foreign : kForeignTypes) {
    if (foreign.id == id) text += " (" + std::string(foreign.name) + ")";
  }
  return text;
}

std::string weight_types_text() {
  std::string text;
  for (const TensorTypeInfo& info : tensor_types()) {
    if (!info.is_weight) continue;
    if (!text.empty()) text += ", ";
    text += info.name;
  }
  return text;
}

std::optional<std::size_t> align_up(std::size_t size, std::size_t alignment) {
  CHECK(alignment > 0);
  const std::size_t remainder = size % alignment;
  if (remainder == 0) return size;
  std::size_t aligned = 0;
  if (__builtin_add_overflow(size, alignment - remainder, &aligned)) return std::nullopt;
  return aligned;
}

std::string quoted_name(std::string_view name) {
  constexpr std::string_view kHexDigits = "0123456789abcdef";
  constexpr std::size_t kMaxLength = 80;
  std::string text = "'";
  for (const char c : name) {
    if (text.size() > kMaxLength) return text + "...'";
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f) {
      text += c;
    } else {
      text += {'\\', 'x', kHexDigits[byte >> 4], kHexDigits[byte & 15]};
    }
  }
  return text + "'";
}

}  // namespace refute
