#include "falsifiers/router_pairs_weights_with_ids.h"

#include <gtest/gtest.h>

#include "tests/falsifiers/broken_backend.h"
#include "tests/falsifiers/falsifier_expectations.h"

namespace refute {
namespace {

TEST(RouterPairsWeightsWithIds, HoldsOnTheReference) {
  expect_held(router_pairs_weights_with_ids_info());
}

TEST(RouterPairsWeightsWithIds, RefutesReversedWeights) {
  BrokenBackend broken;
  broken.route_fault = [](const Backend& real, MatrixView<const double> logits, std::size_t k,
                          bool normalise) -> Result<Routing<double>> {
    auto routing = real.route(logits, k, normalise);
    for (std::size_t t = 0; t < logits.rows; ++t) std::ranges::reverse(routing->weights.row(t));
    return routing;
  };
  expect_refuted(router_pairs_weights_with_ids_info(), broken, "pairing_error");
}
TEST(RouterPairsWeightsWithIds, RefutesTheLastTwoWeightsExchanged) {
  BrokenBackend broken;
  broken.route_fault = [](const Backend& real, MatrixView<const double> logits, std::size_t k,
                          bool normalise) -> Result<Routing<double>> {
    auto routing = real.route(logits, k, normalise);
    for (std::size_t t = 0; t < logits.rows && k > 1; ++t)
      std::swap(routing->weights(t, k - 1), routing->weights(t, k - 2));
    return routing;
  };
  expect_refuted(router_pairs_weights_with_ids_info(), broken, "pairing_error");
}
TEST(RouterPairsWeightsWithIds, RefutesUniformWeights) {
  BrokenBackend broken;
  broken.route_fault = [](const Backend& real, MatrixView<const double> logits, std::size_t k,
                          bool normalise) -> Result<Routing<double>> {
    auto routing = real.route(logits, k, normalise);
    std::ranges::fill(routing->weights.flat(), 1.0 / static_cast<double>(k));
    return routing;
  };
  expect_refuted(router_pairs_weights_with_ids_info(), broken, "pairing_error");
}
TEST(RouterPairsWeightsWithIds, RefutesALastIdOffByOne) {
  BrokenBackend broken;
  broken.route_fault = [](const Backend& real, MatrixView<const double> logits, std::size_t k,
                          bool normalise) -> Result<Routing<double>> {
    auto routing = real.route(logits, k, normalise);
    for (std::size_t t = 0; t < logits.rows && k < logits.columns; ++t) {
      auto ids = routing->ids.row(t);
      std::int32_t next = ids[k - 1];
      while (std::ranges::find(ids, next) != ids.end()) {
        next = (next + 1) % static_cast<std::int32_t>(logits.columns);
      }
      ids[k - 1] = next;
    }
    return routing;
  };
  expect_refuted(router_pairs_weights_with_ids_info(), broken, "pairing_error");
}
TEST(RouterPairsWeightsWithIds, RefutesASingleExpertWithoutWeightOne) {
  BrokenBackend broken;
  broken.route_fault = [](const Backend& real, MatrixView<const double> logits, std::size_t k,
                          bool normalise) -> Result<Routing<double>> {
    auto routing = real.route(logits, k, normalise);
    for (std::size_t t = 0; t < logits.rows && k == 1; ++t) routing->weights(t, 0) = 0.9999999;
    return routing;
  };
  expect_refuted(router_pairs_weights_with_ids_info(), broken, "unit_error");
}

TEST(RouterPairsWeightsWithIds, RefutesASingleWeightThatIsNearlyOne) {
  BrokenBackend broken;
  broken.route_fault = [](const Backend& real, MatrixView<const double> logits, std::size_t k,
                          bool normalise) -> Result<Routing<double>> {
    auto routing = real.route(logits, k, normalise);
    if (routing && k == 1) routing->weights(0, 0) = 1.0 - 0x1p-53;
    return routing;
  };
  expect_refuted(router_pairs_weights_with_ids_info(), broken, "unit_error");
}

}  // namespace
}  // namespace refute
