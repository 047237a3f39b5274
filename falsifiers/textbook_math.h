// The operations of a transformer written a second time, from their formulas, in float64 and
// sharing nothing with kernels/: what the float64 oracle itself is tried against. Slow.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "kernels/attention.h"
#include "kernels/matrix.h"
#include "kernels/quant/dequantize.h"

namespace refute::textbook {

// The elements of one stored row.
std::vector<double> stored_row(const WeightView& weight, std::size_t row);

double dot(std::span<const double> a, std::span<const double> b);

// x / sqrt(mean(x^2) + epsilon) * gain
std::vector<double> rms_norm(std::span<const double> x, std::span<const float> gain,
                             double epsilon);

// Turns each head of `x` by the angles position * theta^(-2 i / head_dim), element i with element i
// + head_dim / 2.
std::vector<double> rope(std::span<const double> x, std::size_t head_dim, double theta,
                         std::size_t position);

// One token's heads; sees all rows of k and v, which is what makes it causal.
std::vector<double> attention(const AttentionShape& shape, std::span<const double> q,
                              MatrixView<const double> k, MatrixView<const double> v);

double silu(double x);

}  // namespace refute::textbook
