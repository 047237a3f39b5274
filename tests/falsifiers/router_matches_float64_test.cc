#include "falsifiers/router_matches_float64.h"

#include <gtest/gtest.h>

#include "kernels/quant/half.h"
#include "tests/falsifiers/broken_backend.h"
#include "tests/falsifiers/falsifier_expectations.h"

namespace refute {
namespace {

TEST(RouterMatchesFloat64, HoldsOnTheReference) { expect_held(router_matches_float64_info()); }

TEST(RouterMatchesFloat64, RefutesLogitsRoundedToBfloat16) {
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
  expect_refuted(router_matches_float64_info(), broken, "relative_l2");
}
TEST(RouterMatchesFloat64, RefutesAScaleOfTwoMillionths) {
  BrokenBackend broken;
  broken.route_fault = [](const Backend& real, MatrixView<const double> logits, std::size_t k,
                          bool normalise) -> Result<Routing<double>> {
    auto routing = real.route(logits, k, normalise);
    for (double& weight : routing->weights.flat()) weight *= 1.000002;
    return routing;
  };
  expect_refuted(router_matches_float64_info(), broken, "scale_error");
}
TEST(RouterMatchesFloat64, RefutesAnotherExpert) {
  BrokenBackend broken;
  broken.route_fault = [](const Backend& real, MatrixView<const double> logits, std::size_t k,
                          bool normalise) -> Result<Routing<double>> {
    auto routing = real.route(logits, k, normalise);
    for (std::size_t t = 0; t < logits.rows && k < logits.columns; ++t) {
      auto ids = routing->ids.row(t);
      while (std::ranges::count(ids, ids[0]) > 0) {
        std::int32_t next = ids[0];
        while (std::ranges::find(ids, next) != ids.end()) {
          next = (next + 1) % static_cast<std::int32_t>(logits.columns);
        }
        ids[0] = next;
        break;
      }
    }
    return routing;
  };
  expect_refuted(router_matches_float64_info(), broken, "wrong_ids");
}

}  // namespace
}  // namespace refute
