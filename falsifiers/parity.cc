#include "falsifiers/parity.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "falsifiers/metrics.h"

namespace refute {
namespace {

// Close to float32's smallest normal number, 1.2e-38, float32 has no relative accuracy.
constexpr double kVanishing = 1e-35;

}  // namespace

bool measure_parity(PropertyCase& property_case, MatrixView<const double> reference,
                    MatrixView<const double> candidate, std::string_view where) {
  const auto vanishes = [](double value) { return std::abs(value) < kVanishing; };
  if (reference.size() > 0 && std::ranges::all_of(reference.flat(), vanishes)) {
    const bool same_shape =
        candidate.rows == reference.rows && candidate.columns == reference.columns;
    return property_case.require(same_shape && std::ranges::all_of(candidate.flat(), vanishes),
                                 std::string(where) + ": the reference vanishes, this does not");
  }
  const auto comparison = compare(reference, candidate, 0.0);
  if (!property_case.require_ok(comparison, where)) return false;
  const auto at_row = [&where](std::size_t row) {
    return std::string(where) + " row " + std::to_string(row);
  };
  bool passed = property_case.measure("relative_l2", comparison->relative_l2, where);
  passed &= property_case.measure("worst_row_relative_l2", comparison->worst_row_relative_l2,
                                  at_row(comparison->worst_row));
  passed &= property_case.measure(
      "linf_over_rms", comparison->linf_over_rms,
      at_row(comparison->linf_row) + " column " + std::to_string(comparison->linf_column));
  passed &= property_case.measure("scale_error", comparison->scale_error, where);
  passed &= property_case.measure("worst_row_cosine", comparison->worst_row_cosine,
                                  at_row(comparison->worst_cosine_row));
  return passed;
}

bool measure_equal_bits(PropertyCase& property_case, MatrixView<const double> expected,
                        MatrixView<const double> found, std::string_view where) {
  const auto differing = count_differing_bits(expected, found);
  if (!property_case.require_ok(differing, where)) return false;
  return property_case.measure("differing_elements", static_cast<double>(*differing), where);
}

}  // namespace refute
