// y[i] = silu(gate[i]) * up[i], silu(g) = g / (1 + exp(-g))  (Shazeer, 2020).
//
// cpu: float32, (gate / (1 + exp32(-gate))) * up, each step rounded.
#pragma once

#include "kernels/cpu/context.h"
#include "kernels/matrix.h"

namespace refute {
namespace oracle {

// gate, up, y: [rows, moe_intermediate_size]. y may be gate or up.
void swiglu(MatrixView<const double> gate, MatrixView<const double> up, MatrixView<double> y);

}  // namespace oracle

namespace cpu {

void swiglu(const Context& context, MatrixView<const float> gate, MatrixView<const float> up,
            MatrixView<float> y);

}  // namespace cpu
}  // namespace refute
