#include "falsifiers/swiglu_matches_float64.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/falsifiers/broken_backend.h"
#include "tests/falsifiers/falsifier_expectations.h"

namespace refute {
namespace {

TEST(SwigluMatchesFloat64, HoldsOnTheReference) { expect_held(swiglu_matches_float64_info()); }

TEST(SwigluMatchesFloat64, RefutesGelu) {
  BrokenBackend broken;
  broken.swiglu_fault = [](const Backend& real, MatrixView<const double> gate,
                           MatrixView<const double> up) {
    auto y = real.swiglu(gate, up);
    for (std::size_t i = 0; i < gate.size(); ++i) {
      const double g = gate.data[i];
      const double u = up.data[i];
      y->flat()[i] = 0.5 * g * (1.0 + std::erf(g / std::sqrt(2.0))) * u;
    }
    return y;
  };
  expect_refuted(swiglu_matches_float64_info(), broken, "relative_l2");
}
TEST(SwigluMatchesFloat64, RefutesQuickGelu) {
  BrokenBackend broken;
  broken.swiglu_fault = [](const Backend& real, MatrixView<const double> gate,
                           MatrixView<const double> up) {
    auto y = real.swiglu(gate, up);
    for (std::size_t i = 0; i < gate.size(); ++i) {
      const double g = gate.data[i];
      const double u = up.data[i];
      y->flat()[i] = g / (1.0 + std::exp(-1.702 * g)) * u;
    }
    return y;
  };
  expect_refuted(swiglu_matches_float64_info(), broken, "relative_l2");
}
TEST(SwigluMatchesFloat64, RefutesRelu) {
  BrokenBackend broken;
  broken.swiglu_fault = [](const Backend& real, MatrixView<const double> gate,
                           MatrixView<const double> up) {
    auto y = real.swiglu(gate, up);
    for (std::size_t i = 0; i < gate.size(); ++i) {
      const double g = gate.data[i];
      const double u = up.data[i];
      y->flat()[i] = std::max(g, 0.0) * u;
    }
    return y;
  };
  expect_refuted(swiglu_matches_float64_info(), broken, "relative_l2");
}
TEST(SwigluMatchesFloat64, RefutesGateAndUpExchanged) {
  BrokenBackend broken;
  broken.swiglu_fault = [](const Backend& real, MatrixView<const double> gate,
                           MatrixView<const double> up) {
    auto y = real.swiglu(gate, up);
    for (std::size_t i = 0; i < gate.size(); ++i) {
      const double g = gate.data[i];
      const double u = up.data[i];
      y->flat()[i] = u / (1.0 + std::exp(-u)) * g;
    }
    return y;
  };
  expect_refuted(swiglu_matches_float64_info(), broken, "relative_l2");
}
TEST(SwigluMatchesFloat64, RefutesAnExponentialOfFewBits) {
  BrokenBackend broken;
  broken.swiglu_fault = [](const Backend& real, MatrixView<const double> gate,
                           MatrixView<const double> up) {
    auto y = real.swiglu(gate, up);
    for (std::size_t i = 0; i < gate.size(); ++i) {
      const double g = gate.data[i];
      const double u = up.data[i];
      y->flat()[i] = g / (1.0 + std::exp(-g) * (1.0 + 4e-6)) * u;
    }
    return y;
  };
  expect_refuted(swiglu_matches_float64_info(), broken, "element_error");
}

}  // namespace
}  // namespace refute
