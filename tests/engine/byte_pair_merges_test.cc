#include "engine/byte_pair_merges.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "tests/engine/golden_lines.h"

namespace refute {
namespace {

using Ids = std::vector<std::int32_t>;

Ids applied(const MergeTable& table, Ids ids) {
  table.apply(ids);
  return ids;
}

TEST(MergeTable, LeavesIdsWithoutPairsAlone) {
  MergeTable table;
  table.insert(1, 2, 0, 10);
  EXPECT_EQ(applied(table, {}), Ids());
  EXPECT_EQ(applied(table, {1}), Ids({1}));
  EXPECT_EQ(applied(table, {2, 1, 3}), Ids({2, 1, 3}));
}

TEST(MergeTable, LowestRankMergesFirst) {
  MergeTable table;
  table.insert(1, 2, 5, 10);
  table.insert(2, 3, 4, 11);
  EXPECT_EQ(applied(table, {1, 2, 3}), Ids({1, 11}));
  EXPECT_EQ(applied(table, {1, 2, 1}), Ids({10, 1}));
}

TEST(MergeTable, LeftmostMergesFirstAmongEqualRanks) {
  MergeTable table;
  table.insert(1, 1, 0, 10);
  EXPECT_EQ(applied(table, {1, 1, 1}), Ids({10, 1}));
  EXPECT_EQ(applied(table, {1, 1, 1, 1, 1}), Ids({10, 10, 1}));
}

TEST(MergeTable, MergesOfMergesWaitForTheirParts) {
  MergeTable table;
  table.insert(10, 10, 0, 20);  // More urgent than what makes its parts.
  table.insert(1, 2, 7, 10);
  EXPECT_EQ(applied(table, {1, 2, 1, 2, 1, 2, 1, 2, 1, 2}), Ids({20, 20, 10}));
}

TEST(MergeTable, FirstEntryOfAPairCounts) {
  MergeTable table;
  table.insert(1, 2, 0, 10);
  table.insert(1, 2, 1, 11);
  EXPECT_EQ(table.size(), 1U);
  EXPECT_EQ(applied(table, {1, 2}), Ids({10}));
}

// The definition, word for word: O(n^2).
Ids merged_by_definition(const std::vector<Ids>& merges, Ids ids) {
  while (true) {
    const Ids* best = nullptr;
    std::size_t best_position = 0;
    for (std::size_t rank = 0; rank < merges.size() && best == nullptr; ++rank) {
      for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
        if (ids[i] != merges[rank][0] || ids[i + 1] != merges[rank][1]) continue;
        best = &merges[rank];
        best_position = i;
        break;
      }
    }
    if (best == nullptr) return ids;
    ids[best_position] = (*best)[2];
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(best_position) + 1);
  }
}

TEST(MergeTable, EqualsTheDefinitionOnRandomTables) {
  TestBytes random(1);
  const auto below = [&random](std::int32_t limit) {
    return static_cast<std::int32_t>(static_cast<unsigned char>(random.next())) % limit;
  };
  std::size_t num_merged = 0;
  for (int round = 0; round < 300; ++round) {
    MergeTable table;
    std::vector<Ids> merges;
    std::int32_t next_id = 4;  // Of ids 0 to 3 everything is made.
    for (int rank = 0; rank < 12; ++rank, ++next_id) {
      const Ids merge = {below(next_id), below(next_id), next_id};
      table.insert(merge[0], merge[1], merges.size(), merge[2]);
      merges.push_back(merge);
    }
    Ids ids(40);
    for (std::int32_t& id : ids) id = below(4);
    const Ids expected = merged_by_definition(merges, ids);
    num_merged += ids.size() - expected.size();
    ASSERT_EQ(applied(table, ids), expected) << "round " << round;
  }
  EXPECT_GT(num_merged, 1000U);
}

}  // namespace
}  // namespace refute
