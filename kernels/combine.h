// The weighted sum of a token's experts, and the residual addition.
//
//   combine:  y[t, i] = sum over rank r of weight[t, r] * expert_out[t * k + r, i]   ranks
//   ascending add:      y[t, i] = a[t, i] + b[t, i]
//
// cpu: float32, an fma chain from 0 over ascending rank.
#pragma once

#include "kernels/cpu/context.h"
#include "kernels/matrix.h"

namespace refute {
namespace oracle {

// expert_out [num_tokens * k, hidden_size], weight [num_tokens, k], y [num_tokens, hidden_size]
void combine(MatrixView<const double> expert_out, MatrixView<const double> weight,
             MatrixView<double> y);
void add(MatrixView<const double> a, MatrixView<const double> b, MatrixView<double> y);

}  // namespace oracle

namespace cpu {

void combine(const Context& context, MatrixView<const float> expert_out,
             MatrixView<const float> weight, MatrixView<float> y);
// y may be a or b.
void add(const Context& context, MatrixView<const float> a, MatrixView<const float> b,
         MatrixView<float> y);

}  // namespace cpu
}  // namespace refute
