#include "falsifiers/router_shift_invariant.h"

#include <gtest/gtest.h>

#include "kernels/quant/half.h"
#include "tests/falsifiers/broken_backend.h"
#include "tests/falsifiers/falsifier_expectations.h"

namespace refute {
namespace {

TEST(RouterShiftInvariant, HoldsOnTheReference) { expect_held(router_shift_invariant_info()); }

TEST(RouterShiftInvariant, RefutesLogitsRoundedToBfloat16) {
  BrokenBackend broken;
  broken.route_fault = [](const Backend& real, MatrixView<const double> logits, std::size_t k,
                          bool normalise) -> Result<Routing<double>> {
    Matrix<double> rounded(logits.rows, logits.columns);
    for (std::size_t i = 0; i < logits.size(); ++i) {
      rounded.flat()[i] = static_cast<double>(
          float_from_bfloat16(bfloat16_from_float(static_cast<float>(logits.data[i]))));
    }
    return real.route(rounded.view(), k, normalise);
  };
  expect_refuted(router_shift_invariant_info(), broken, "weight_change");
}
TEST(RouterShiftInvariant, RefutesAClampOfLogits) {
  BrokenBackend broken;
  broken.route_fault = [](const Backend& real, MatrixView<const double> logits, std::size_t k,
                          bool normalise) -> Result<Routing<double>> {
    Matrix<double> clamped(logits.rows, logits.columns);
    for (std::size_t i = 0; i < logits.size(); ++i)
      clamped.flat()[i] = std::clamp(logits.data[i], -50.0, 50.0);
    return real.route(clamped.view(), k, normalise);
  };
  expect_refuted(router_shift_invariant_info(), broken, "weight_change");
}

}  // namespace
}  // namespace refute
