// Faults of matrix products: a float16 accumulator (F1, F75), rows and sums left over (F76, F93),
// a split of the columns (F83), Q6_K integers that no block can hold (F9, F10), and the
// quantization of activations (F94 to F96). Built for seeding faults only (kernels/faults.h).
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "kernels/faults.h"
#include "kernels/matmul.h"

namespace refute::faulty {

// Changes one quantized row: x, q [columns]; d, sums [columns / 32].
void edit_activations(std::span<const float> x, std::span<std::int8_t> q, std::span<float> d,
                      std::span<std::int32_t> sums);

// The same for row t of x and `activations`.
void edit_activations(MatrixView<const float> x, std::size_t t, QuantizedActivations& activations);

// The oracle's product with its faults; multiply is the right one. x: as it enters the product.
using MultiplyExact = void (*)(const WeightView&, MatrixView<const double>, MatrixView<double>);
void matmul_exact(const WeightView& weight, MatrixView<const double> x, MatrixView<double> y,
                  MultiplyExact multiply);

// The CPU's.
using MultiplyQuantized = std::function<void(const cpu::Context&, const WeightView&,
                                             const QuantizedActivations&, MatrixView<float>)>;
void matmul_quantized(const cpu::Context& context, const WeightView& weight,
                      const QuantizedActivations& activations, MatrixView<float> y,
                      const MultiplyQuantized& multiply);
using MultiplyFloat = std::function<void(const cpu::Context&, const WeightView&,
                                         MatrixView<const float>, MatrixView<float>)>;
void matmul_float(const cpu::Context& context, const WeightView& weight, MatrixView<const float> x,
                  MatrixView<float> y, const MultiplyFloat& multiply);

}  // namespace refute::faulty
