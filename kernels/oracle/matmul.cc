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
    if constexpr (kFaultSites) faulty::edit_activations(FaultHost::kOracle, row, q, d, sums);
    for (std::size_t c = 0; c < x.columns; ++c) {
      emulated[t * x.columns + c] = static_cast<double>(d[c / 32]) * q[c];
    }
  }
  return emulated;
}

void multiply(const WeightView& weight, MatrixView<const double> x, MatrixView<double> y) {
  std::vector<double> row(weight.columns);
  for (std::size_t r = 0; r < weight.rows; ++r) {
    dequantize_row(weight.type, weight.row(r), std::span<double>(row));
    for (std::size_t t = 0; t < x.rows; ++t) {
      const double* input = x.data + t * x.columns;
      double sum = 0.0;
      for (std::size_t c = 0; c < weight.columns; ++c) sum += input[c] * row[c];
      y.data[t * y.columns + r] = sum;
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
