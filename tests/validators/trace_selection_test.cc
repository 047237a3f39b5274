#include "validators/trace/selection.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace refute {
namespace {

using Texts = std::vector<std::string>;

Result<TraceSelection> select(const Texts& points, const Texts& layers) {
  return TraceSelection::create(points, layers, 8);
}

TEST(TraceSelection, TakesEverythingWithoutAnyWord) {
  const auto all = select({}, {});
  ASSERT_TRUE(all);
  EXPECT_EQ(all->size(), 3u + 8u * 21u);
}

TEST(TraceSelection, TakesLayersAndRangesAndGlobs) {
  const auto some = select({"expert_*", "logits"}, {"0", "4-6"});
  ASSERT_TRUE(some);
  EXPECT_EQ(some->size(), 4u * 4u) << "logits are in no layer";
  EXPECT_TRUE(some->contains({TracePoint::kExpertUp, 5}));
  EXPECT_FALSE(some->contains({TracePoint::kExpertUp, 7}));
  EXPECT_FALSE(some->contains({TracePoint::kMoeOut, 5}));
  const auto named = select({"blk.[12].moe_out", "logits"}, {});
  ASSERT_TRUE(named);
  EXPECT_EQ(named->size(), 3u);
}

TEST(TraceSelection, RefusesWhatTheModelDoesNotHave) {
  for (const char* layer : {"8", "3-8", "5-3", "x", "", "-1", "1-", "1-2-3"}) {
    const auto refused = select({}, {layer});
    ASSERT_FALSE(refused) << layer;
    EXPECT_NE(refused.error().message().find("0 to 7"), std::string::npos);
  }
  const auto refused = select({"moe_uot"}, {});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message().find("did you mean `moe_out`?"), std::string::npos);
}

}  // namespace
}  // namespace refute
