// Root mean square normalisation of rows (Zhang & Sennrich, 2019), also used per head on q and k:
//
//   y[t, i] = x[t, i] / sqrt(mean_i(x[t, i]^2) + epsilon) * weight[i]
//
//   x, y    [num_rows, size]       weight  [size]
//
// cpu: float32. The sum of squares goes in the 128-lane order of kernels/matmul.h (fma chain,
// halving tree); then scale = 1 / sqrt(sum / size + epsilon), y = (x * scale) * weight, each step
// rounded.
#pragma once

#include <span>

#include "kernels/cpu/context.h"
#include "kernels/matrix.h"

namespace refute {
namespace oracle {

void rms_norm(MatrixView<const double> x, std::span<const float> weight, double epsilon,
              MatrixView<double> y);

}  // namespace oracle

namespace cpu {

// y may be x.
void rms_norm(const Context& context, MatrixView<const float> x, std::span<const float> weight,
              float epsilon, MatrixView<float> y);

}  // namespace cpu
}  // namespace refute
