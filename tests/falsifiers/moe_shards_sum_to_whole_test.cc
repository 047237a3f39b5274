#include "falsifiers/moe_shards_sum_to_whole.h"

#include <gtest/gtest.h>

#include "tests/falsifiers/broken_backend.h"
#include "tests/falsifiers/falsifier_expectations.h"

namespace refute {
namespace {

TEST(MoeShardsSumToWhole, HoldsOnTheReference) { expect_held(moe_shards_sum_to_whole_info()); }

void expect_weight_fault_refuted(const std::function<void(std::span<double>)>& change) {
  BrokenBackend broken;
  broken.route_fault = [change](const Backend& real, MatrixView<const double> logits, std::size_t k,
                                bool normalise) -> Result<Routing<double>> {
    auto routing = real.route(logits, k, normalise);
    if (!routing) return routing;
    for (std::size_t t = 0; t < logits.rows; ++t) change(routing->weights.row(t));
    return routing;
  };
  expect_refuted(moe_shards_sum_to_whole_info(), broken, "relative_l2");
}

TEST(MoeShardsSumToWhole, RefutesADroppedLastExpert) {  // F29
  expect_weight_fault_refuted([](std::span<double> weights) { weights.back() = 0.0; });
}

TEST(MoeShardsSumToWhole, RefutesADoubledLastWeight) {  // F35
  expect_weight_fault_refuted([](std::span<double> weights) { weights.back() *= 2.0; });
}

TEST(MoeShardsSumToWhole, RefutesAFirstWeightThatIsTooLarge) {  // F36
  expect_weight_fault_refuted([](std::span<double> weights) { weights.front() *= 1.1; });
}

TEST(MoeShardsSumToWhole, RefutesAConstantThatEveryShardAdds) {
  BrokenBackend broken;
  broken.moe_fault = [](MatrixView<double> y) {
    for (double& value : y.flat()) value += 1e-3;
  };
  expect_refuted(moe_shards_sum_to_whole_info(), broken, "");
}

}  // namespace
}  // namespace refute
