#include "kernels/combine.h"

#include "kernels/faulty/rows.h"

namespace refute::oracle {

void combine(MatrixView<const double> expert_out, MatrixView<const double> weight,
             MatrixView<double> y) {
  CHECK(expert_out.rows == weight.rows * weight.columns);
  CHECK(y.rows == weight.rows && y.columns == expert_out.columns);
  for (std::size_t t = 0; t < y.rows; ++t) {
    for (std::size_t i = 0; i < y.columns; ++i) {
      double sum = 0.0;
      for (std::size_t r = 0; r < weight.columns; ++r) {
        sum += weight.row(t)[r] * expert_out.row(t * weight.columns + r)[i];
      }
      y.row(t)[i] = sum;
    }
  }
  if constexpr (kFaultSites) faulty::edit_token_rows(y);
}

void add(MatrixView<const double> a, MatrixView<const double> b, MatrixView<double> y) {
  CHECK(a.rows == b.rows && a.columns == b.columns);
  CHECK(y.rows == a.rows && y.columns == a.columns);
  for (std::size_t i = 0; i < y.size(); ++i) y.data[i] = a.data[i] + b.data[i];
}

}  // namespace refute::oracle
