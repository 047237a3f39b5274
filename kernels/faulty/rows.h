// Faults of ops that work row by row: RMS norm (F45 to F50), rope (F52 to F55, F57, F99, F100),
// SwiGLU (F23 to F27, F111) and the weighted sum of experts (F41 to F43). Built for seeding faults
// only (kernels/faults.h).
#pragma once

#include <cstddef>
#include <span>

#include "kernels/faults.h"
#include "kernels/matrix.h"
#include "kernels/rope.h"

namespace refute::faulty {

// What a norm takes in place of its epsilon (F45, F46) and its gains (F48).
template <typename Real>
Real norm_epsilon(Real epsilon);
template <typename Real>
std::span<const float> norm_weight(std::span<const float> weight);
// The root mean square, which is `rms` when computed rightly from the sum of squares of `size`
// elements (F47, F50).
template <typename Real>
Real norm_rms(Real sum, std::size_t size, Real epsilon, Real rms);
// Writes x with the mean of each row subtracted to y and returns true (F49). y may be x.
template <typename Real>
bool centre_rows(MatrixView<const Real> x, MatrixView<Real> y);

// Turns one row wrongly and returns true.
template <typename Real>
bool rope_row(const RopeTable& table, std::size_t position, std::span<Real> row);

// Computes all of it wrongly and returns true.
template <typename Real>
bool swiglu(MatrixView<const Real> gate, MatrixView<const Real> up, MatrixView<Real> y);
// Whether the op is to take gate for up and the other way round.
template <typename Real>
bool swaps_gate_and_up(MatrixView<const Real> gate, MatrixView<const Real> up);

// Changes rows of tokens [num_tokens, ...].
template <typename Real>
void edit_token_rows(MatrixView<Real> y);

}  // namespace refute::faulty
