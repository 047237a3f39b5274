#include "kernels/swiglu.h"

#include <cmath>

namespace refute::oracle {

void swiglu(MatrixView<const double> gate, MatrixView<const double> up, MatrixView<double> y) {
  CHECK(up.rows == gate.rows && up.columns == gate.columns);
  CHECK(y.rows == gate.rows && y.columns == gate.columns);
  for (std::size_t i = 0; i < gate.size(); ++i) {
    const double g = gate.data[i];
    y.data[i] = g / (1.0 + std::exp(-g)) * up.data[i];
  }
}

}  // namespace refute::oracle
