#include "falsifiers/expert_matches_emulated_oracle.h"

#include <gtest/gtest.h>

#include "tests/falsifiers/broken_backend.h"
#include "tests/falsifiers/falsifier_expectations.h"

namespace refute {
namespace {

TEST(ExpertMatchesEmulatedOracle, HoldsOnTheReference) {
  expect_held(expert_matches_emulated_oracle_info());
}

TEST(ExpertMatchesEmulatedOracle, RefutesGateAndUpExchanged) {
  BrokenBackend broken;
  broken.swiglu_fault = [](const Backend& real, MatrixView<const double> gate,
                           MatrixView<const double> up) { return real.swiglu(up, gate); };
  expect_refuted(expert_matches_emulated_oracle_info(), broken, "relative_l2");
}

TEST(ExpertMatchesEmulatedOracle, RefutesAScaleOfTwoMillionths) {
  BrokenBackend broken;
  broken.expert_fault = [](std::span<double> y) {
    for (double& value : y) value *= 1.000002;
  };
  expect_refuted(expert_matches_emulated_oracle_info(), broken, "scale_error");
}

TEST(ExpertMatchesEmulatedOracle, RefutesOneNegatedOutput) {
  BrokenBackend broken;
  broken.expert_fault = [](std::span<double> y) { y.back() *= -1.0; };
  expect_refuted(expert_matches_emulated_oracle_info(), broken, "relative_l2");
}
TEST(ExpertMatchesEmulatedOracle, RefutesDownProjReadAsAnotherRow) {
  BrokenBackend broken;
  broken.matmul_fault = [](const Backend& real, const WeightView& weight,
                           MatrixView<const double> x) {
    auto y = real.matmul(weight, x);
    std::ranges::rotate(y->flat(), y->flat().begin() + 1);
    return y;
  };
  expect_refuted(expert_matches_emulated_oracle_info(), broken, "relative_l2");
}

}  // namespace
}  // namespace refute
