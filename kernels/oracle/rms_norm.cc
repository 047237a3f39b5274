#include "kernels/rms_norm.h"

#include <cmath>

namespace refute::oracle {

void rms_norm(MatrixView<const double> x, std::span<const float> weight, double epsilon,
              MatrixView<double> y) {
  CHECK(weight.size() == x.columns);
  CHECK(y.rows == x.rows);
  CHECK(y.columns == x.columns);
  for (std::size_t t = 0; t < x.rows; ++t) {
    double sum = 0.0;
    for (const double value : x.row(t)) sum += value * value;
    const double rms = std::sqrt(sum / static_cast<double>(x.columns) + epsilon);
    for (std::size_t i = 0; i < x.columns; ++i) {
      y.row(t)[i] = x.row(t)[i] / rms * static_cast<double>(weight[i]);
    }
  }
}

}  // namespace refute::oracle
