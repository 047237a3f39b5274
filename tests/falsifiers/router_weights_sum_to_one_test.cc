#include "falsifiers/router_weights_sum_to_one.h"

#include <gtest/gtest.h>

#include "tests/falsifiers/broken_backend.h"
#include "tests/falsifiers/falsifier_expectations.h"

namespace refute {
namespace {

TEST(RouterWeightsSumToOne, HoldsOnTheReference) { expect_held(router_weights_sum_to_one_info()); }

TEST(RouterWeightsSumToOne, RefutesMissingRenormalisation) {
  BrokenBackend broken;
  broken.route_fault = [](const Backend& real, MatrixView<const double> logits, std::size_t k,
                          bool normalise) -> Result<Routing<double>> {
    static_cast<void>(normalise);
    return real.route(logits, k, false);
  };
  expect_refuted(router_weights_sum_to_one_info(), broken, "sum_error_over_ku");
}
TEST(RouterWeightsSumToOne, RefutesWeightsFivePercentTooLarge) {
  BrokenBackend broken;
  broken.route_fault = [](const Backend& real, MatrixView<const double> logits, std::size_t k,
                          bool normalise) -> Result<Routing<double>> {
    auto routing = real.route(logits, k, normalise);
    for (double& weight : routing->weights.flat()) weight *= 1.05;
    return routing;
  };
  expect_refuted(router_weights_sum_to_one_info(), broken, "sum_error_over_ku");
}
TEST(RouterWeightsSumToOne, RefutesALastExpertWithoutWeight) {
  BrokenBackend broken;
  broken.route_fault = [](const Backend& real, MatrixView<const double> logits, std::size_t k,
                          bool normalise) -> Result<Routing<double>> {
    auto routing = real.route(logits, k, normalise);
    for (std::size_t t = 0; t < logits.rows; ++t) routing->weights(t, k - 1) = 0.0;
    return routing;
  };
  expect_refuted(router_weights_sum_to_one_info(), broken, "sum_error_over_ku");
}
TEST(RouterWeightsSumToOne, RefutesWeightsOfBothSigns) {
  BrokenBackend broken;
  broken.route_fault = [](const Backend& real, MatrixView<const double> logits, std::size_t k,
                          bool normalise) -> Result<Routing<double>> {
    auto routing = real.route(logits, k, normalise);
    for (std::size_t t = 0; t < logits.rows && k > 1; ++t) {
      routing->weights(t, 0) += 1.0;
      routing->weights(t, 1) -= 1.0;
    }
    return routing;
  };
  expect_refuted(router_weights_sum_to_one_info(), broken, "range_error");
}

}  // namespace
}  // namespace refute
