#include "falsifiers/swiglu_goldens.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/falsifiers/broken_backend.h"
#include "tests/falsifiers/falsifier_expectations.h"

namespace refute {
namespace {

TEST(SwigluGoldens, HoldsOnTheReference) { expect_held(swiglu_goldens_info()); }

TEST(SwigluGoldens, RefutesGelu) {
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
  expect_refuted(swiglu_goldens_info(), broken, "golden_error");
}
TEST(SwigluGoldens, RefutesQuickGelu) {
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
  expect_refuted(swiglu_goldens_info(), broken, "golden_error");
}
TEST(SwigluGoldens, RefutesRelu) {
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
  expect_refuted(swiglu_goldens_info(), broken, "golden_error");
}
TEST(SwigluGoldens, RefutesASigmoid) {
  BrokenBackend broken;
  broken.swiglu_fault = [](const Backend& real, MatrixView<const double> gate,
                           MatrixView<const double> up) {
    auto y = real.swiglu(gate, up);
    for (std::size_t i = 0; i < gate.size(); ++i) {
      const double g = gate.data[i];
      const double u = up.data[i];
      y->flat()[i] = 1.0 / (1.0 + std::exp(-g)) * u;
    }
    return y;
  };
  expect_refuted(swiglu_goldens_info(), broken, "zero_gate");
}
TEST(SwigluGoldens, RefutesGateAndUpExchanged) {
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
  expect_refuted(swiglu_goldens_info(), broken, "asymmetry");
}

}  // namespace
}  // namespace refute
