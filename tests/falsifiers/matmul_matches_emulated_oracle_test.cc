#include "falsifiers/matmul_matches_emulated_oracle.h"

#include <gtest/gtest.h>

#include "kernels/quant/half.h"
#include "tests/falsifiers/broken_backend.h"
#include "tests/falsifiers/falsifier_expectations.h"

namespace refute {
namespace {

TEST(MatmulMatchesEmulatedOracle, HoldsOnTheReference) {
  expect_held(matmul_matches_emulated_oracle_info());
}

TEST(MatmulMatchesEmulatedOracle, RefutesExactActivations) {
  BrokenBackend broken;
  broken.matmul_fault = [](const Backend& real, const WeightView& weight,
                           MatrixView<const double> x) {
    static_cast<void>(real);
    return make_oracle_backend(ActivationScheme::kExact)->matmul(weight, x);
  };
  expect_refuted(matmul_matches_emulated_oracle_info(), broken, "elementwise_ratio");
}
TEST(MatmulMatchesEmulatedOracle, RefutesTailRowsOfZero) {
  BrokenBackend broken;
  broken.matmul_fault = [](const Backend& real, const WeightView& weight,
                           MatrixView<const double> x) {
    auto y = real.matmul(weight, x);
    for (std::size_t t = x.rows / 8 * 8; t < x.rows; ++t) std::ranges::fill(y->row(t), 0.0);
    return y;
  };
  expect_refuted(matmul_matches_emulated_oracle_info(), broken, "elementwise_ratio");
}
TEST(MatmulMatchesEmulatedOracle, RefutesOneNegatedOutput) {
  BrokenBackend broken;
  broken.matmul_fault = [](const Backend& real, const WeightView& weight,
                           MatrixView<const double> x) {
    auto y = real.matmul(weight, x);
    y->row(0).back() *= -1.0;
    return y;
  };
  expect_refuted(matmul_matches_emulated_oracle_info(), broken, "elementwise_ratio");
}
TEST(MatmulMatchesEmulatedOracle, RefutesAScaleOfTwoMillionths) {
  BrokenBackend broken;
  broken.matmul_fault = [](const Backend& real, const WeightView& weight,
                           MatrixView<const double> x) {
    auto y = real.matmul(weight, x);
    for (double& value : y->flat()) value *= 1.000002;
    return y;
  };
  expect_refuted(matmul_matches_emulated_oracle_info(), broken, "scale_error");
}
TEST(MatmulMatchesEmulatedOracle, RefutesResultsInFloat16) {
  BrokenBackend broken;
  broken.matmul_fault = [](const Backend& real, const WeightView& weight,
                           MatrixView<const double> x) {
    auto y = real.matmul(weight, x);
    for (double& value : y->flat())
      value = static_cast<double>(float_from_half(half_from_float(static_cast<float>(value))));
    return y;
  };
  expect_refuted(matmul_matches_emulated_oracle_info(), broken, "elementwise_ratio");
}
TEST(MatmulMatchesEmulatedOracle, RefutesASuperBlockLeftOut) {
  BrokenBackend broken;
  broken.matmul_fault = [](const Backend& real, const WeightView& weight,
                           MatrixView<const double> x) {
    Matrix<double> cut(x.rows, x.columns, {x.flat().begin(), x.flat().end()});
    for (std::size_t t = 0; t < x.rows; ++t) std::ranges::fill(cut.row(t).last(x.columns / 2), 0.0);
    return real.matmul(weight, cut.view());
  };
  expect_refuted(matmul_matches_emulated_oracle_info(), broken, "elementwise_ratio");
}

}  // namespace
}  // namespace refute
