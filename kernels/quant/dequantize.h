// Exact dequantization of stored rows.
//
// The float64 values are exact for every type. The float32 values are the float64 ones rounded once
// (to nearest even), so both agree wherever float32 can hold the value.
#pragma once

#include <cstddef>
#include <span>

#include "kernels/quant/tensor_type.h"

namespace refute {

// Borrows a weight matrix [rows, columns] as stored, row-major, every row row_bytes(type, columns)
// long. Host memory, aligned to 2 bytes at least (4 for F32).
struct WeightView {
  TensorType type = TensorType::kF32;
  std::size_t rows = 0;
  std::size_t columns = 0;
  const std::byte* data = nullptr;

  std::size_t bytes_per_row() const { return row_bytes(type, columns); }
  std::size_t bytes() const { return rows * bytes_per_row(); }
  const std::byte* row(std::size_t r) const { return data + r * bytes_per_row(); }
};

// row: bytes of one stored row; values: its `columns` elements. Preconditions: a weight type,
// columns a multiple of the type's block size.
void dequantize_row(TensorType type, const std::byte* row, std::span<double> values);
void dequantize_row(TensorType type, const std::byte* row, std::span<float> values);

// True when every scale of the row (d, dmin; the elements themselves for F32, F16, BF16) is finite.
bool row_scales_are_finite(TensorType type, const std::byte* row, std::size_t columns);

}  // namespace refute
