#include "kernels/swiglu.h"

#include <cmath>
#include <utility>

#include "kernels/faulty/rows.h"

namespace refute::oracle {

void swiglu(MatrixView<const double> gate, MatrixView<const double> up, MatrixView<double> y) {
  CHECK(up.rows == gate.rows && up.columns == gate.columns);
  CHECK(y.rows == gate.rows && y.columns == gate.columns);
  if constexpr (kFaultSites) {
    if (faulty::swaps_gate_and_up(gate, up)) std::swap(gate, up);
    if (faulty::swiglu(gate, up, y)) return;
  }
  for (std::size_t i = 0; i < gate.size(); ++i) {
    const double g = gate.data[i];
    y.data[i] = g / (1.0 + std::exp(-g)) * up.data[i];
  }
}

}  // namespace refute::oracle
