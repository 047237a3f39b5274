#include "falsifiers/rms_norm_closed_form_near_epsilon.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/falsifiers/broken_backend.h"
#include "tests/falsifiers/falsifier_expectations.h"

namespace refute {
namespace {

TEST(RmsNormClosedFormNearEpsilon, HoldsOnTheReference) {
  expect_held(rms_norm_closed_form_near_epsilon_info());
}

TEST(RmsNormClosedFormNearEpsilon, RefutesAnEpsilonTenTimesTooLarge) {
  BrokenBackend broken;
  broken.rms_norm_fault = [](const Backend& real, MatrixView<const double> x,
                             std::span<const float> weight,
                             float epsilon) { return real.rms_norm(x, weight, 10.0f * epsilon); };
  expect_refuted(rms_norm_closed_form_near_epsilon_info(), broken, "ulp");
}
TEST(RmsNormClosedFormNearEpsilon, RefutesAnEpsilonOnePercentOff) {
  BrokenBackend broken;
  broken.rms_norm_fault = [](const Backend& real, MatrixView<const double> x,
                             std::span<const float> weight,
                             float epsilon) { return real.rms_norm(x, weight, 1.01f * epsilon); };
  expect_refuted(rms_norm_closed_form_near_epsilon_info(), broken, "ulp");
}
TEST(RmsNormClosedFormNearEpsilon, RefutesEpsilonOutsideOfTheRoot) {
  BrokenBackend broken;
  broken.rms_norm_fault = [](const Backend& real, MatrixView<const double> x,
                             std::span<const float> weight, float epsilon) {
    auto y = real.rms_norm(x, weight, 0.0f);
    for (std::size_t t = 0; t < x.rows; ++t) {
      double square = 0.0;
      for (const double value : x.row(t)) square += value * value / static_cast<double>(x.columns);
      for (double& value : y->row(t))
        value *= std::sqrt(square) / (std::sqrt(square) + static_cast<double>(epsilon));
    }
    return y;
  };
  expect_refuted(rms_norm_closed_form_near_epsilon_info(), broken, "ulp");
}
TEST(RmsNormClosedFormNearEpsilon, RefutesAFixedEpsilon) {
  BrokenBackend broken;
  broken.rms_norm_fault = [](const Backend& real, MatrixView<const double> x,
                             std::span<const float> weight, float epsilon) {
    static_cast<void>(epsilon);
    return real.rms_norm(x, weight, 0x1p-20f);
  };
  expect_refuted(rms_norm_closed_form_near_epsilon_info(), broken, "");
}

TEST(RmsNormClosedFormNearEpsilon, RefutesASubtractedMean) {  // F49
  BrokenBackend broken;
  broken.rms_norm_fault = [](const Backend& real, MatrixView<const double> x,
                             std::span<const float> weight, float epsilon) {
    Matrix<double> centred(x.rows, x.columns, {x.flat().begin(), x.flat().end()});
    for (std::size_t t = 0; t < x.rows; ++t) {
      double mean = 0.0;
      for (const double value : x.row(t)) mean += value / static_cast<double>(x.columns);
      for (double& value : centred.row(t)) value -= mean;
    }
    return real.rms_norm(centred.view(), weight, epsilon);
  };
  expect_refuted(rms_norm_closed_form_near_epsilon_info(), broken, "ulp");
}

}  // namespace
}  // namespace refute
