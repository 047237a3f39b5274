// How the backends of float32 take the float64 arguments of engine/backend.h, and give results
// back.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/matrix.h"
#include "kernels/result.h"

namespace refute {

inline Matrix<float> to_float(MatrixView<const double> x) {
  Matrix<float> y(x.rows, x.columns);
  std::ranges::transform(x.flat(), y.data(),
                         [](double value) { return static_cast<float>(value); });
  return y;
}

inline Matrix<double> to_double(const Matrix<float>& x) {
  auto y = Matrix<double>::uninitialized(x.rows(), x.columns());
  std::ranges::copy(x.flat(), y.data());
  return y;
}

// float16 bit patterns, as a cache holds them.
Matrix<std::uint16_t> to_half(MatrixView<const double> x);

// Calls a float32 function on float64 arguments; y stays as it is on an error.
template <typename Function>
Result<void> with_floats(std::span<const double> x, std::span<double> y, const Function& function) {
  std::vector<float> input(x.size());
  std::ranges::transform(x, input.begin(), [](double value) { return static_cast<float>(value); });
  std::vector<float> output(y.size());
  Result<void> ok = function(std::span<const float>(input), std::span<float>(output));
  if (ok) std::ranges::copy(output, y.begin());
  return ok;
}

}  // namespace refute
