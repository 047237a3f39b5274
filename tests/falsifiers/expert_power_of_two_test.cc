#include "falsifiers/expert_power_of_two.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/falsifiers/broken_backend.h"
#include "tests/falsifiers/falsifier_expectations.h"

namespace refute {
namespace {

TEST(ExpertPowerOfTwo, HoldsOnTheReference) { expect_held(expert_power_of_two_info()); }

TEST(ExpertPowerOfTwo, RefutesASaturatedOutput) {
  BrokenBackend broken;
  broken.expert_fault = [](std::span<double> y) {
    for (double& value : y) value = std::clamp(value, -1.0, 1.0);
  };
  expect_refuted(expert_power_of_two_info(), broken, "differing_elements");
}

TEST(ExpertPowerOfTwo, RefutesAnOffset) {
  BrokenBackend broken;
  broken.expert_fault = [](std::span<double> y) { y[0] += 1e-9; };
  expect_refuted(expert_power_of_two_info(), broken, "zero_gate");
}

TEST(ExpertPowerOfTwo, RefutesAGateIgnored) {
  BrokenBackend broken;
  broken.swiglu_fault = [](const Backend& real, MatrixView<const double> gate,
                           MatrixView<const double> up) {
    auto y = real.swiglu(gate, up);
    std::ranges::copy(up.flat(), y->flat().begin());
    return y;
  };
  expect_refuted(expert_power_of_two_info(), broken, "zero_gate");
}

TEST(ExpertPowerOfTwo, RefutesScalesOfOneSignOnly) {
  BrokenBackend broken;
  broken.matmul_fault = [](const Backend& real, const WeightView& weight,
                           MatrixView<const double> x) {
    if (weight.type != TensorType::kQ8_0) return real.matmul(weight, x);
    std::vector<std::byte> bytes(weight.data, weight.data + weight.bytes());
    for (std::size_t block = 0; block < bytes.size(); block += 34)
      bytes[block + 1] &= std::byte{0x7f};
    return real.matmul({weight.type, weight.rows, weight.columns, bytes.data()}, x);
  };
  expect_refuted(expert_power_of_two_info(), broken, "differing_elements");
}

TEST(ExpertPowerOfTwo, RefutesUpWithoutItsSign) {
  BrokenBackend broken;
  broken.swiglu_fault = [](const Backend& real, MatrixView<const double> gate,
                           MatrixView<const double> up) {
    Matrix<double> magnitude(up.rows, up.columns);
    for (std::size_t i = 0; i < up.size(); ++i) magnitude.flat()[i] = std::abs(up.data[i]);
    return real.swiglu(gate, magnitude.view());
  };
  expect_refuted(expert_power_of_two_info(), broken, "differing_elements");
}

}  // namespace
}  // namespace refute
