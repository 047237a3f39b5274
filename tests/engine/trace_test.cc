#include "engine/trace.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "engine/moe_slots.h"

namespace refute {
namespace {

TEST(TracePoint, NamesAreUniqueAndParseBack) {
  std::set<std::string> names;
  for (const TracePoint point : all_trace_points()) {
    names.insert(std::string(trace_point_name(point)));
    EXPECT_EQ(parse_trace_point(trace_point_name(point)), point);
  }
  EXPECT_EQ(names.size(), all_trace_points().size());
  EXPECT_EQ(all_trace_points().size(), 24u);
  EXPECT_EQ(parse_trace_point("atn_norm"), std::nullopt);
}

TEST(TraceSite, IsNamedByLayerWhereThereIsOne) {
  EXPECT_EQ((TraceSite{TracePoint::kMoeOut, 3}).name(), "blk.3.moe_out");
  EXPECT_EQ((TraceSite{TracePoint::kLogits, 0}).name(), "logits");
}

TEST(TraceRecorder, AppendsLaterChunksOfTheSameSite) {
  TraceRecorder recorder;
  const Matrix<float> first(1, 2, {1, 2});
  const Matrix<float> second(2, 2, {3, 4, 5, 6});
  recorder.record({TracePoint::kQ, 1}, 7, first.view());
  recorder.record({TracePoint::kQ, 1}, 8, second.view());
  const TraceTensor* tensor = recorder.find({TracePoint::kQ, 1});
  ASSERT_NE(tensor, nullptr);
  EXPECT_EQ(tensor->first_position, 7u);
  EXPECT_EQ(tensor->element, TraceElement::kFloat32);
  EXPECT_EQ(tensor->values.rows(), 3u);
  EXPECT_EQ(tensor->values(2, 1), 6.0);
  EXPECT_EQ(recorder.order().size(), 1u);
  EXPECT_EQ(recorder.find({TracePoint::kQ, 0}), nullptr);
}

TEST(MoeSlots, GroupsByExpertAndComesBackInOrder) {
  const Matrix<std::int32_t> ids(3, 2, {2, 0, 0, 1, 2, 0});
  const SlotGrouping grouping = group_slots_by_expert(ids.view(), 4);
  EXPECT_EQ(grouping.slots, (std::vector<std::size_t>{1, 2, 5, 3, 0, 4}));
  ASSERT_EQ(grouping.experts.size(), 3u);  // Expert 3 has no token.
  EXPECT_EQ(grouping.experts[1].expert, 1u);
  EXPECT_EQ(grouping.experts[1].begin, 3u);
  EXPECT_EQ(grouping.experts[1].end, 4u);
  Matrix<int> grouped(6, 1);
  for (std::size_t i = 0; i < 6; ++i) grouped(i, 0) = static_cast<int>(grouping.slots[i]);
  const Matrix<int> restored = in_slot_order(grouped, grouping.slots);
  for (std::size_t slot = 0; slot < 6; ++slot) EXPECT_EQ(restored(slot, 0), static_cast<int>(slot));
}

TEST(MoeSlots, AllTokensToOneExpertIsOneGroup) {
  const Matrix<std::int32_t> ids(5, 1, {7, 7, 7, 7, 7});
  const SlotGrouping grouping = group_slots_by_expert(ids.view(), 8);
  ASSERT_EQ(grouping.experts.size(), 1u);
  EXPECT_EQ(grouping.experts[0].end, 5u);
}

}  // namespace
}  // namespace refute
