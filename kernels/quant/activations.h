// Activations as they enter a quantized matmul: int8 in blocks of 32 along the row.
//
//   d[b]   = max |x| / 127 over the block's elements            (float32, one division)
//   q[i]   = round_half_even(x[i] / d[b]) clamped to [-127, 127] (0 where d[b] is 0)
//   sum[b] = sum of q over the block
//
// A block that holds NaN or Inf gets q = 0, sum = 0 and d = NaN, so that every result computed from
// it is NaN and none is silently finite. Identical on every backend, bit for bit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/matrix.h"

namespace refute {

struct QuantizedActivations {
  std::size_t rows = 0;
  std::size_t columns = 0;         // A multiple of 32.
  std::vector<std::int8_t> q;      // [rows, columns]
  std::vector<float> d;            // [rows, columns / 32]
  std::vector<std::int32_t> sums;  // [rows, columns / 32]

  std::size_t blocks() const { return columns / 32; }
  void resize(std::size_t new_rows, std::size_t new_columns);
};

// The definition above in plain loops; the fast versions (kernels/cpu) must give the same bits.
// x: [columns] float32, columns a multiple of 32; q: [columns]; d, sums: [columns / 32].
void quantize_activation_row(std::span<const float> x, std::span<std::int8_t> q, std::span<float> d,
                             std::span<std::int32_t> sums);

}  // namespace refute
