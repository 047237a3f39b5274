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

// Two numbers side by side, which every x86-64 and AArch64 adds at once. Written out, because left
// alone the compiler vectorises the wrong loop.
using Two = double __attribute__((vector_size(2 * sizeof(double))));

// Eight rows at a time, so that one sum does not wait for the last addition of another. Each sum is
// still one addition after the other, over ascending columns.
void multiply(const WeightView& weight, MatrixView<const double> x, MatrixView<double> y) {
  constexpr std::size_t kRows = 8;
  constexpr std::size_t kPairs = kRows / 2;
  const std::size_t columns = weight.columns;
  std::vector<double> row(columns);
  std::vector<Two> rows(kPairs * columns);
  for (std::size_t first = 0; first < weight.rows; first += kRows) {
    const std::size_t count = std::min(kRows, weight.rows - first);
    for (std::size_t r = 0; r < count; ++r) {
      dequantize_row(weight.type, weight.row(first + r), std::span<double>(row));
      for (std::size_t c = 0; c < columns; ++c) rows[c * kPairs + r / 2][r % 2] = row[c];
    }
    for (std::size_t t = 0; t < x.rows; ++t) {
      const double* const input = x.data + t * columns;
      Two sum[kPairs] = {};
      for (std::size_t c = 0; c < columns; ++c) {
        const Two both = {input[c], input[c]};
#pragma GCC unroll 4
        for (std::size_t p = 0; p < kPairs; ++p) sum[p] += both * rows[c * kPairs + p];
      }
      for (std::size_t r = 0; r < count; ++r) {
        y.data[t * y.columns + first + r] = sum[r / 2][r % 2];
      }
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
