// The element types that tensors are stored in. All backends read all of the weight types.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string_view>

#include "kernels/quant/tensor_type_id.h"

namespace refute {

struct TensorTypeInfo {
  TensorType type;
  std::string_view name;   // As printed: "Q4_K".
  std::size_t block_size;  // Elements a block.
  std::size_t block_bytes;
  bool is_weight;     // May hold weights; otherwise only expectations (I32, F64).
  bool is_quantized;  // Its matmul takes int8 activations (numerics in kernels/matmul.h).
};

// Every type, in the order of the enumeration.
std::span<const TensorTypeInfo> tensor_types();
const TensorTypeInfo& tensor_type_info(TensorType type);
// By printed name without regard to case ("q4_k"); empty when there is no such type.
std::optional<TensorType> parse_tensor_type(std::string_view name);

// Bytes of one row of `columns` elements: ceil(columns / block_size) * block_bytes.
std::size_t row_bytes(TensorType type, std::size_t columns);

}  // namespace refute
