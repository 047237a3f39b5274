// Matrix product with stored weights: y[t, r] = sum over c of x[t, c] * weight[r, c].
//
//   x       [num_tokens, columns]
//   weight  [rows, columns], any weight type
//   y       [num_tokens, rows]
//
// Numerics of the fast backends (cpu, and cuda and wgpu after it), the same bit for bit:
//
// Quantized weights (Q8_0, Q4_K, Q5_K, Q6_K). x is quantized as in quant/activations.h: q, dx, sum
// for each block of 32 columns. For block b, dot = sum of q * weight integers, exact in int32, and
//   Q8_0        v[b] = d * float(dot)
//   Q4_K, Q5_K  v[b] = fma(d, float(scale * dot), -(dmin * float(min * sum)))
//   Q6_K        v[b] = d * float(scale_0 * dot_0 + scale_1 * dot_1)   (two halves of 16 columns)
// The integers fit 24 bits, so the conversions are exact. With super-block s = blocks 8s .. 8s+7,
//   u[s, p] = fma(dx[8s+2p+1], v[8s+2p+1], dx[8s+2p] * v[8s+2p])      p = 0 .. 3
//   S[s]    = (u[s, 0] + u[s, 1]) + (u[s, 2] + u[s, 3])
//   y       = ((0 + S[0]) + S[1]) + ...                               s ascending
// where blocks past the end of a row (Q8_0 only) count as dx = v = 0. The order depends on the row
// alone: not on threads, tiles, num_tokens or the instruction set.
//
// F32, F16, BF16 weights: x stays float32. With w[c] converted to float32,
//   L[i] = fma chain over c = i, i + 128, i + 256, ... from 0         i = 0 .. 127
//   y    = L[0] after L[i] += L[i + h] for h = 64, 32, 16, 8, 4, 2, 1 and i < h ("halving tree").
#pragma once

#include "kernels/cpu/context.h"
#include "kernels/matrix.h"
#include "kernels/quant/activations.h"
#include "kernels/quant/dequantize.h"

namespace refute {

// What the activations of a quantized matmul go through in the float64 oracle.
enum class ActivationScheme {
  kExact,         // Used as they are.
  kEmulatedInt8,  // Rounded to float32, then to int8 blocks (quant/activations.h), as fast paths
                  // do.
};

namespace oracle {

// Plain float64 loops over exactly dequantized weights; `scheme` applies to quantized weights only.
void matmul(const WeightView& weight, MatrixView<const double> x, ActivationScheme scheme,
            MatrixView<double> y);

}  // namespace oracle

namespace cpu {

// Preconditions: x.columns == weight.columns, y is [x.rows, weight.rows], quantized types have
// columns a multiple of their block size.
void matmul(const Context& context, const WeightView& weight, MatrixView<const float> x,
            MatrixView<float> y);

// The two steps apart, so that one quantization serves several products of the same x.
void quantize_activations(const Context& context, MatrixView<const float> x,
                          QuantizedActivations* activations);
// Precondition: a quantized weight type, weight.columns == activations.columns.
void matmul_quantized(const Context& context, const WeightView& weight,
                      const QuantizedActivations& activations, MatrixView<float> y);

}  // namespace cpu
}  // namespace refute
