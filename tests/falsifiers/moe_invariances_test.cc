#include "falsifiers/moe_invariances.h"

#include <gtest/gtest.h>

#include "tests/falsifiers/broken_backend.h"
#include "tests/falsifiers/falsifier_expectations.h"

namespace refute {
namespace {

TEST(MoeInvariances, HoldsOnTheReference) { expect_held(moe_invariances_info()); }

TEST(MoeInvariances, RefutesExpertOffsetsThatWrap) {
  BrokenBackend broken;
  broken.expert_id_fault = [](Matrix<std::int32_t>& ids) {
    for (std::int32_t& id : ids.flat()) id %= 128;
  };
  expect_refuted(moe_invariances_info(), broken, "");
}

TEST(MoeInvariances, RefutesAnAccumulatorLeftFromTheTokenBefore) {
  BrokenBackend broken;
  broken.moe_fault = [](MatrixView<double> y) {
    for (std::size_t t = 1; t < y.rows; ++t) y.row(t)[0] += 1e-9 * y.row(t - 1)[0];
  };
  expect_refuted(moe_invariances_info(), broken, "differing_elements");
}

TEST(MoeInvariances, RefutesTheFirstTokensExpertsForAll) {
  BrokenBackend broken;
  broken.expert_id_fault = [](Matrix<std::int32_t>& ids) {
    for (std::size_t t = 1; t < ids.rows(); ++t) std::ranges::copy(ids.row(0), ids.row(t).begin());
  };
  expect_refuted(moe_invariances_info(), broken, "");
}

TEST(MoeInvariances, RefutesExpertZeroForTheLastRank) {
  BrokenBackend broken;
  broken.expert_id_fault = [](Matrix<std::int32_t>& ids) {
    for (std::size_t t = 0; t < ids.rows(); ++t) ids.row(t).back() = 0;
  };
  expect_refuted(moe_invariances_info(), broken, "relative_l2");
}

TEST(MoeInvariances, RefutesWeightsFivePercentTooLarge) {
  BrokenBackend broken;
  broken.route_fault = [](const Backend& real, MatrixView<const double> logits, std::size_t k,
                          bool normalise) -> Result<Routing<double>> {
    auto routing = real.route(logits, k, normalise);
    if (!routing) return routing;
    for (double& weight : routing->weights.flat()) weight *= 1.05;
    return routing;
  };
  expect_refuted(moe_invariances_info(), broken, "relative_l2");
}

TEST(MoeInvariances, RefutesATailOfALargeBatchLeftOver) {  // F42
  BrokenBackend broken;
  broken.moe_fault = [](MatrixView<double> y) {
    if (y.rows > 64 && y.rows % 64 != 0) y.row(y.rows - 1)[3] = 0.0;
  };
  expect_refuted(moe_invariances_info(), broken, "differing_elements");
}

TEST(MoeInvariances, RefutesACapacityThatOverflows) {  // F98
  class Capacity : public BrokenBackend {
   public:
    Result<void> moe_ffn_forward_layer(const Config& config, const LayerWeights& layer,
                                       std::size_t layer_index, std::size_t first_position,
                                       MatrixView<const double> x, const ForwardOptions& options,
                                       MatrixView<double> y) const override {
      auto done = BrokenBackend::moe_ffn_forward_layer(config, layer, layer_index, first_position,
                                                       x, options, y);
      // Room for 64 tokens an expert.
      if (done && options.forced_routes != nullptr && x.rows > 64) {
        for (double& value : y.row(64)) value = 0.0;
      }
      return done;
    }
  };
  expect_refuted(moe_invariances_info(), Capacity(), "relative_l2");
}

}  // namespace
}  // namespace refute
