#include "kernels/quant/tensor_type.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "kernels/check.h"

namespace refute {
namespace {

constexpr std::array<TensorTypeInfo, 9> kTypes = {{
    {TensorType::kF32, "F32", 1, 4, true, false},
    {TensorType::kF16, "F16", 1, 2, true, false},
    {TensorType::kBF16, "BF16", 1, 2, true, false},
    {TensorType::kQ8_0, "Q8_0", 32, 34, true, true},
    {TensorType::kQ4_K, "Q4_K", 256, 144, true, true},
    {TensorType::kQ5_K, "Q5_K", 256, 176, true, true},
    {TensorType::kQ6_K, "Q6_K", 256, 210, true, true},
    {TensorType::kI32, "I32", 1, 4, false, false},
    {TensorType::kF64, "F64", 1, 8, false, false},
}};

}  // namespace

std::span<const TensorTypeInfo> tensor_types() { return kTypes; }

const TensorTypeInfo& tensor_type_info(TensorType type) {
  const auto index = static_cast<std::size_t>(type);
  CHECK(index < kTypes.size());
  CHECK(kTypes[index].type == type);
  return kTypes[index];
}

std::optional<TensorType> parse_tensor_type(std::string_view name) {
  for (const TensorTypeInfo& info : kTypes) {
    const bool equal =
        std::equal(name.begin(), name.end(), info.name.begin(), info.name.end(),
                   [](char a, char b) { return std::toupper(static_cast<unsigned char>(a)) == b; });
    if (equal) return info.type;
  }
  return std::nullopt;
}

std::size_t row_bytes(TensorType type, std::size_t columns) {
  const TensorTypeInfo& info = tensor_type_info(type);
  return (columns + info.block_size - 1) / info.block_size * info.block_bytes;
}

}  // namespace refute
