#include "falsifiers/rms_norm_matches_float64.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/falsifiers/broken_backend.h"
#include "tests/falsifiers/falsifier_expectations.h"

namespace refute {
namespace {

TEST(RmsNormMatchesFloat64, HoldsOnTheReference) { expect_held(rms_norm_matches_float64_info()); }

TEST(RmsNormMatchesFloat64, RefutesAMissingGain) {
  BrokenBackend broken;
  broken.rms_norm_fault = [](const Backend& real, MatrixView<const double> x,
                             std::span<const float> weight, float epsilon) {
    const std::vector<float> ones(weight.size(), 1.0f);
    return real.rms_norm(x, ones, epsilon);
  };
  expect_refuted(rms_norm_matches_float64_info(), broken, "relative_l2");
}
TEST(RmsNormMatchesFloat64, RefutesNMinusOneInTheMean) {
  BrokenBackend broken;
  broken.rms_norm_fault = [](const Backend& real, MatrixView<const double> x,
                             std::span<const float> weight, float epsilon) {
    auto y = real.rms_norm(x, weight, epsilon);
    const double n = static_cast<double>(x.columns);
    for (double& value : y->flat()) value *= std::sqrt((n - 1.0) / n);
    return y;
  };
  expect_refuted(rms_norm_matches_float64_info(), broken, "scale_error");
}
TEST(RmsNormMatchesFloat64, RefutesASubtractedMean) {
  BrokenBackend broken;
  broken.rms_norm_fault = [](const Backend& real, MatrixView<const double> x,
                             std::span<const float> weight, float epsilon) {
    Matrix<double> centred(x.rows, x.columns);
    for (std::size_t t = 0; t < x.rows; ++t) {
      double mean = 0.0;
      for (const double value : x.row(t)) mean += value / static_cast<double>(x.columns);
      for (std::size_t c = 0; c < x.columns; ++c) centred(t, c) = x.row(t)[c] - mean;
    }
    return real.rms_norm(centred.view(), weight, epsilon);
  };
  expect_refuted(rms_norm_matches_float64_info(), broken, "relative_l2");
}

}  // namespace
}  // namespace refute
