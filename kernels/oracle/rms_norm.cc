#include "kernels/rms_norm.h"

#include <cmath>

#include "kernels/faulty/rows.h"

namespace refute::oracle {

void rms_norm(MatrixView<const double> x, std::span<const float> weight, double epsilon,
              MatrixView<double> y) {
  CHECK(weight.size() == x.columns);
  CHECK(y.rows == x.rows);
  CHECK(y.columns == x.columns);
  if constexpr (kFaultSites) {
    epsilon = faulty::norm_epsilon(epsilon);
    weight = faulty::norm_weight<double>(weight);
    if (faulty::centre_rows(x, y)) x = y;
  }
  for (std::size_t t = 0; t < x.rows; ++t) {
    double sum = 0.0;
    for (const double value : x.row(t)) sum += value * value;
    double rms = std::sqrt(sum / static_cast<double>(x.columns) + epsilon);
    if constexpr (kFaultSites) rms = faulty::norm_rms(sum, x.columns, epsilon, rms);
    for (std::size_t i = 0; i < x.columns; ++i) {
      y.row(t)[i] = x.row(t)[i] / rms * static_cast<double>(weight[i]);
    }
  }
}

}  // namespace refute::oracle
