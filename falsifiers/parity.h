// The metrics of comparison classes A and B (one op on identical inputs) and of class E
// (equal bits), and how a property takes them.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

#include "engine/backend_id.h"
#include "falsifiers/falsifier.h"
#include "falsifiers/property.h"
#include "kernels/matrix.h"

namespace refute {

inline constexpr std::array<BackendId, 3> kFastBackends = {BackendId::kCpu, BackendId::kCuda,
                                                           BackendId::kWgpu};

inline constexpr std::array<MetricInfo, 5> kParityMetrics = {{
    {"relative_l2", "Euclidean norm of the error over that of the reference, whole tensor.", false,
     5e-6},
    {"worst_row_relative_l2", "The same over one row, the worst.", false, 2e-5},
    {"linf_over_rms", "Largest absolute error over the root mean square of the reference.", false,
     5e-5},
    {"scale_error", "|<y, y'> / <y, y> - 1|: how far the amplitude is off.", false, 1e-6},
    {"worst_row_cosine", "Cosine of a row with the reference's, the worst.", true, 1.0 - 1e-9},
}};

inline constexpr MetricInfo kDifferingElements = {
    "differing_elements", "Elements whose bits differ where none may; fewer than one.", false, 0.5};

// The parity metrics with more behind them.
template <std::size_t kMore>
constexpr std::array<MetricInfo, 5 + kMore> parity_and(const std::array<MetricInfo, kMore>& more) {
  std::array<MetricInfo, 5 + kMore> all{};
  for (std::size_t i = 0; i < 5; ++i) all[i] = kParityMetrics[i];
  for (std::size_t i = 0; i < kMore; ++i) all[5 + i] = more[i];
  return all;
}

// Takes the five metrics. What cannot be compared fails the case; a reference of zeros must be met
// by zeros. Returns whether everything passed.
bool measure_parity(PropertyCase& property_case, MatrixView<const double> reference,
                    MatrixView<const double> candidate, std::string_view where);

// Takes differing_elements.
bool measure_equal_bits(PropertyCase& property_case, MatrixView<const double> expected,
                        MatrixView<const double> found, std::string_view where);

}  // namespace refute
