#include "engine/float_arguments.h"

#include "engine/faulty/layer.h"
#include "kernels/faults.h"
#include "kernels/quant/half.h"

namespace refute {

Matrix<std::uint16_t> to_half(MatrixView<const double> x) {
  Matrix<std::uint16_t> y(x.rows, x.columns);
  std::ranges::transform(x.flat(), y.data(), [](double value) {
    auto rounded = static_cast<float>(value);
    if constexpr (kFaultSites) rounded = faulty::wrapped_half(rounded);
    return half_from_float(rounded);
  });
  return y;
}

}  // namespace refute
