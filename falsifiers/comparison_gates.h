// Measures one comparison under several metrics of a falsifier.
#pragma once

#include <string>
#include <string_view>

#include "falsifiers/judge.h"
#include "falsifiers/metrics.h"
#include "kernels/matrix.h"

namespace refute {

// The falsifier's name for each distance; an empty one is not measured.
struct ComparisonGates {
  std::string_view relative_l2;
  std::string_view worst_row_relative_l2;
  std::string_view linf_over_rms;
  std::string_view scale_error;
  std::string_view worst_row_cosine;
  std::string_view mean_offset_over_rms;
};

// The metrics of falsifiers/parity.h.
inline constexpr ComparisonGates kParityGates = {.relative_l2 = "relative_l2",
                                                 .worst_row_relative_l2 = "worst_row_relative_l2",
                                                 .linf_over_rms = "linf_over_rms",
                                                 .scale_error = "scale_error",
                                                 .worst_row_cosine = "worst_row_cosine",
                                                 .mean_offset_over_rms = ""};

// Compares, measures what `gates` names and counts one case. What compare() refuses never holds: a
// candidate of another shape or with NaN refutes, a reference with NaN is a failed attempt, a
// reference of zeros shows nothing. Returns whether every measured value met its threshold.
bool measure_comparison(MatrixView<const double> reference, MatrixView<const double> candidate,
                        const ComparisonGates& gates, std::string_view where, Judge* judge);

// Measures how many elements differ in their bits and counts one case; matrices of different shapes
// refute. Returns whether the value met its threshold.
bool measure_differing(std::string_view metric, MatrixView<const double> reference,
                       MatrixView<const double> candidate, std::string_view where, Judge* judge);

// "1.2e-07", for notes.
std::string short_number(double value);

}  // namespace refute
