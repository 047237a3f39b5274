#include "falsifiers/activation_quantization_matches_definition.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/falsifiers/broken_backend.h"
#include "tests/falsifiers/falsifier_expectations.h"

namespace refute {
namespace {

TEST(ActivationQuantizationMatchesDefinition, HoldsOnTheReference) {
  expect_held(activation_quantization_matches_definition_info());
}

TEST(ActivationQuantizationMatchesDefinition, RefutesExactActivations) {
  BrokenBackend broken;
  broken.matmul_fault = [](const Backend& real, const WeightView& weight,
                           MatrixView<const double> x) {
    static_cast<void>(real);
    return make_oracle_backend(ActivationScheme::kExact)->matmul(weight, x);
  };
  expect_refuted(activation_quantization_matches_definition_info(), broken, "differing_elements");
}
TEST(ActivationQuantizationMatchesDefinition, RefutesRoundingHalfAwayFromZero) {
  BrokenBackend broken;
  broken.matmul_fault = [](const Backend& real, const WeightView& weight,
                           MatrixView<const double> x) {
    Matrix<double> nudged(x.rows, x.columns, {x.flat().begin(), x.flat().end()});
    // Ties of 127 / 8 go up: past a half by one unit in the last place, the scale as it was.
    for (double& value : nudged.flat()) {
      const bool tie = std::abs(std::remainder(value * 16.0, 2.0)) == 1.0 && std::abs(value) < 15.0;
      if (tie) value = static_cast<double>(static_cast<float>(value * (1.0 + 0x1p-22)));
    }
    return real.matmul(weight, nudged.view());
  };
  expect_refuted(activation_quantization_matches_definition_info(), broken, "differing_elements");
}
TEST(ActivationQuantizationMatchesDefinition, RefutesNanThatTurnsFinite) {
  BrokenBackend broken;
  broken.matmul_fault = [](const Backend& real, const WeightView& weight,
                           MatrixView<const double> x) {
    Matrix<double> cleaned(x.rows, x.columns, {x.flat().begin(), x.flat().end()});
    for (double& value : cleaned.flat()) value = std::isfinite(value) ? value : 0.0;
    return real.matmul(weight, cleaned.view());
  };
  expect_refuted(activation_quantization_matches_definition_info(), broken, "silent_non_finite");
}

}  // namespace
}  // namespace refute
