#include "falsifiers/moe_matches_emulated_oracle.h"

#include <gtest/gtest.h>

#include "tests/falsifiers/broken_backend.h"
#include "tests/falsifiers/falsifier_expectations.h"

namespace refute {
namespace {

TEST(MoeMatchesEmulatedOracle, HoldsOnTheReference) {
  expect_held(moe_matches_emulated_oracle_info());
}

TEST(MoeMatchesEmulatedOracle, RefutesGateAndUpExchanged) {
  BrokenBackend broken;
  broken.swiglu_fault = [](const Backend& real, MatrixView<const double> gate,
                           MatrixView<const double> up) { return real.swiglu(up, gate); };
  expect_refuted(moe_matches_emulated_oracle_info(), broken, "relative_l2");
}
TEST(MoeMatchesEmulatedOracle, RefutesMissingRenormalisation) {
  BrokenBackend broken;
  broken.route_fault = [](const Backend& real, MatrixView<const double> logits, std::size_t k,
                          bool normalise) -> Result<Routing<double>> {
    static_cast<void>(normalise);
    return real.route(logits, k, false);
  };
  expect_refuted(moe_matches_emulated_oracle_info(), broken, "weight_error");
}
TEST(MoeMatchesEmulatedOracle, RefutesWeightsReversed) {
  BrokenBackend broken;
  broken.route_fault = [](const Backend& real, MatrixView<const double> logits, std::size_t k,
                          bool normalise) -> Result<Routing<double>> {
    auto routing = real.route(logits, k, normalise);
    if (!routing) return routing;
    for (std::size_t t = 0; t < logits.rows; ++t) std::ranges::reverse(routing->weights.row(t));
    return routing;
  };
  expect_refuted(moe_matches_emulated_oracle_info(), broken, "weight_error");
}
TEST(MoeMatchesEmulatedOracle, RefutesIdsOffByOne) {
  BrokenBackend broken;
  broken.route_fault = [](const Backend& real, MatrixView<const double> logits, std::size_t k,
                          bool normalise) -> Result<Routing<double>> {
    auto routing = real.route(logits, k, normalise);
    if (!routing) return routing;
    for (std::int32_t& id : routing->ids.flat())
      id = (id + 1) % static_cast<std::int32_t>(logits.columns);
    return routing;
  };
  expect_refuted(moe_matches_emulated_oracle_info(), broken, "misplaced_ids");
}

TEST(MoeMatchesEmulatedOracle, RefutesTracedIdsThatAreNotTheUsedOnes) {
  BrokenBackend broken;
  broken.expert_id_fault = [](Matrix<std::int32_t>& ids) {
    if (ids.columns() > 1) std::swap(ids(0, 0), ids(0, 1));
  };
  expect_refuted(moe_matches_emulated_oracle_info(), broken, "relative_l2");
}

TEST(MoeMatchesEmulatedOracle, RefutesALastExpertLeftOutOfTheSum) {
  BrokenBackend broken;
  broken.combine_fault = [](const Backend& real, MatrixView<const double> out,
                            MatrixView<const double> weight) {
    Matrix<double> cut(weight.rows, weight.columns, {weight.flat().begin(), weight.flat().end()});
    for (std::size_t t = 0; t < weight.rows; ++t) cut.row(t).back() = 0.0;
    return real.combine(out, cut.view());
  };
  expect_refuted(moe_matches_emulated_oracle_info(), broken, "");
}

}  // namespace
}  // namespace refute
