#include "falsifiers/router_order_and_ties.h"

#include <gtest/gtest.h>

#include "tests/falsifiers/broken_backend.h"
#include "tests/falsifiers/falsifier_expectations.h"

namespace refute {
namespace {

TEST(RouterOrderAndTies, HoldsOnTheReference) { expect_held(router_order_and_ties_info()); }

TEST(RouterOrderAndTies, RefutesTiesToTheHighestId) {
  BrokenBackend broken;
  broken.route_fault = [](const Backend& real, MatrixView<const double> logits, std::size_t k,
                          bool normalise) -> Result<Routing<double>> {
    Matrix<double> reversed(logits.rows, logits.columns);
    for (std::size_t t = 0; t < logits.rows; ++t)
      std::ranges::reverse_copy(logits.row(t), reversed.row(t).begin());
    auto routing = real.route(reversed.view(), k, normalise);
    if (!routing) return routing;
    for (std::int32_t& id : routing->ids.flat())
      id = static_cast<std::int32_t>(logits.columns) - 1 - id;
    return routing;
  };
  expect_refuted(router_order_and_ties_info(), broken, "misplaced_ids");
}
TEST(RouterOrderAndTies, RefutesAscendingOrder) {
  BrokenBackend broken;
  broken.route_fault = [](const Backend& real, MatrixView<const double> logits, std::size_t k,
                          bool normalise) -> Result<Routing<double>> {
    auto routing = real.route(logits, k, normalise);
    for (std::size_t t = 0; t < logits.rows; ++t) {
      std::ranges::reverse(routing->ids.row(t));
      std::ranges::reverse(routing->weights.row(t));
    }
    return routing;
  };
  expect_refuted(router_order_and_ties_info(), broken, "misplaced_ids");
}
TEST(RouterOrderAndTies, RefutesIdsAsInt8) {
  BrokenBackend broken;
  broken.route_fault = [](const Backend& real, MatrixView<const double> logits, std::size_t k,
                          bool normalise) -> Result<Routing<double>> {
    auto routing = real.route(logits, k, normalise);
    if (!routing) return routing;
    for (std::int32_t& id : routing->ids.flat()) id %= 128;
    return routing;
  };
  expect_refuted(router_order_and_ties_info(), broken, "");
}

}  // namespace
}  // namespace refute
