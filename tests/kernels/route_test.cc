#include "kernels/route.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace refute {
namespace {

template <typename Real>
class Route : public testing::Test {};
using Reals = testing::Types<float, double>;
TYPED_TEST_SUITE(Route, Reals);

TYPED_TEST(Route, MatchesHandComputedWeights) {
  const std::vector<TypeParam> logits = {0, static_cast<TypeParam>(std::log(2.0)),
                                         static_cast<TypeParam>(std::log(5.0))};
  std::vector<std::int32_t> ids(2);
  std::vector<TypeParam> weights(2);
  ASSERT_TRUE(route<TypeParam>(logits, true, ids, weights));
  EXPECT_EQ(ids, (std::vector<std::int32_t>{2, 1}));
  EXPECT_NEAR(weights[0], 5.0 / 7, 1e-6);
  EXPECT_NEAR(weights[1], 2.0 / 7, 1e-6);
  ASSERT_TRUE(route<TypeParam>(logits, false, ids, weights));
  EXPECT_NEAR(weights[0], 5.0 / 8, 1e-6);
  EXPECT_NEAR(weights[1], 2.0 / 8, 1e-6);
}

TYPED_TEST(Route, TiesGoToTheLowestId) {
  const std::vector<TypeParam> logits(200, TypeParam{3});
  std::vector<std::int32_t> ids(8);
  std::vector<TypeParam> weights(8);
  ASSERT_TRUE(route<TypeParam>(logits, true, ids, weights));
  for (std::int32_t r = 0; r < 8; ++r) {
    EXPECT_EQ(ids[static_cast<std::size_t>(r)], r);
    EXPECT_NEAR(weights[static_cast<std::size_t>(r)], 0.125, 1e-7);
  }
}

TYPED_TEST(Route, LargeLogitsDoNotOverflow) {
  const std::vector<TypeParam> logits = {10000, 10001, -10000};
  std::vector<std::int32_t> ids(1);
  std::vector<TypeParam> weights(1);
  ASSERT_TRUE(route<TypeParam>(logits, true, ids, weights));
  EXPECT_EQ(ids[0], 1);
  EXPECT_EQ(weights[0], TypeParam{1});
}

TYPED_TEST(Route, WeightsOfGivenIdsAreThoseOfTheRouter) {
  const std::vector<TypeParam> logits = {1, 5, 3, 4};
  std::vector<std::int32_t> ids(3);
  std::vector<TypeParam> weights(3);
  ASSERT_TRUE(route<TypeParam>(logits, true, ids, weights));
  std::vector<TypeParam> again(3);
  ASSERT_TRUE(routing_weights<TypeParam>(logits, true, ids, again));
  EXPECT_EQ(weights, again);
}

TYPED_TEST(Route, BadArgumentsAreErrors) {
  std::vector<TypeParam> logits = {1, 2, 3};
  std::vector<std::int32_t> ids(4);
  std::vector<TypeParam> weights(4);
  EXPECT_EQ(route<TypeParam>(logits, true, ids, weights).error().kind, ErrorKind::kInvalidShape);
  ids.clear();
  weights.clear();
  EXPECT_EQ(route<TypeParam>(logits, true, ids, weights).error().kind, ErrorKind::kInvalidShape);
  ids.resize(2);
  weights.resize(1);
  EXPECT_EQ(route<TypeParam>(logits, true, ids, weights).error().kind, ErrorKind::kInvalidShape);
  weights.resize(2);
  for (const double bad : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
    logits[1] = static_cast<TypeParam>(bad);
    const auto result = route<TypeParam>(logits, true, ids, weights);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().kind, ErrorKind::kNonFinite);
    EXPECT_EQ(result.error().where, "route logit of expert 1");
  }
}

}  // namespace
}  // namespace refute
