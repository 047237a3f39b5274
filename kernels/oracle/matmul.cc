#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/faulty/product.h"
#include "kernels/matmul.h"

namespace refute::oracle {
namespace {

// x as the fast paths see it: rounded to float32, quantized to int8 blocks, and back, exactly.
std::vector<double> emulate_int8(MatrixView<const double> x) {
  std::vector<double> emulated(x.size());
  std::vector<float> row(x.columns);
  std::vector<std::int8_t> q(x.columns);
  std::vector<float> d(x.columns / 32);
  std::vector<std::int32_t> sums(x.columns / 32);
  for (std::size_t t = 0; t < x.rows; ++t) {
    for (std::size_t c = 0; c < x.columns; ++c) row[c] = static_cast<float>(x.row(t)[c]);
    quantize_activation_row(row, q, d, sums);
    for (std::size_t c = 0; c < x.columns; ++c) {
      emulated[t * x.columns + c] = static_cast<double>(d[c / 32]) * q[c];
    }
  }
  return emulated;
}

// Some rows at a time, so that one sum does not wait for the last addition of another. Each sum is
// still one addition after the other, over ascending columns.
void multiply(const WeightView& weight, MatrixView<const double> x, MatrixView<double> y) {
  constexpr std::size_t kRows = 8;
  const std::size_t columns = weight.columns;
  std::vector<double> rows(kRows * columns);
  for (std::size_t first = 0; first < weight.rows; first += kRows) {
    const std::size_t count = std::min(kRows, weight.rows - first);
    for (std::size_t r = 0; r < count; ++r) {
      dequantize_row(weight.type, weight.row(first + r),
                     std::span<double>(rows).subspan(r * columns, columns));
    }
    for (std::size_t t = 0; t < x.rows; ++t) {
      const double* const input = x.data + t * columns;
      double sum[kRows] = {};
      for (std::size_t c = 0; c < columns; ++c) {
#pragma GCC unroll 8
        for (std::size_t r = 0; r < kRows; ++r) sum[r] += input[c] * rows[r * columns + c];
      }
      std::copy_n(sum, count, y.data + t * y.columns + first);
    }
  }
}

}  // namespace

void matmul(const WeightView& weight, MatrixView<const double> x, ActivationScheme scheme,
            MatrixView<double> y) {
  CHECK(x.columns == weight.columns);
  CHECK(y.rows == x.rows);
  CHECK(y.columns == weight.rows);
  std::vector<double> emulated;
  if (scheme == ActivationScheme::kEmulatedInt8 && tensor_type_info(weight.type).is_quantized) {
    emulated = emulate_int8(x);
    x.data = emulated.data();
  }
  if constexpr (kFaultSites) return faulty::matmul_exact(weight, x, y, multiply);
  multiply(weight, x, y);
}

}  // namespace refute::oracle
