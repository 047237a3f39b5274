#include "validators/selftest/selftest.h"

#include <gtest/gtest.h>

#include "validators/selftest/headline.h"

namespace refute {
namespace {

class Quiet : public SelftestObserver {
 public:
  void progress(std::size_t done, std::size_t total, std::string_view) override {
    EXPECT_LE(done, total);
  }
};

class SelftestTest : public testing::Test {
 protected:
  SelftestResult run(const SelftestOptions& options) {
    auto subject = load_subject({.model = {}, .expected = "", .num_threads = 1});
    EXPECT_TRUE(subject.has_value());
    Quiet quiet;
    return run_selftest(options, *subject, quiet);
  }
  // Router falsifiers alone, so that a test takes a second.
  static SelftestOptions router(std::vector<std::string> faults) {
    SelftestOptions options;
    options.faults = std::move(faults);
    options.filter = "router.*";
    return options;
  }
};

TEST_F(SelftestTest, KillsAMissingRenormalisationOnBothHosts) {
  const SelftestResult result = run(router({"F22"}));
  EXPECT_TRUE(result.all_killed());
  for (const BackendId host : {BackendId::kOracle, BackendId::kCpu}) {
    const FaultRow* row = result.matrix.find("F22", host);
    ASSERT_NE(row, nullptr);
    EXPECT_TRUE(row->killed());
    EXPECT_GT(row->hits, 0u);
    const KillCell* cell = row->find("router.weights_sum_to_one");
    ASSERT_NE(cell, nullptr);
    EXPECT_EQ(cell->state, CellState::kKilled);
    ASSERT_FALSE(cell->by.empty());
    EXPECT_GT(cell->margin(), 1000.0);
  }
}

TEST_F(SelftestTest, TellsUnreachedFromSurvived) {
  // No router falsifier reaches an epsilon: that is no survival.
  const SelftestResult result = run(router({"F45"}));
  EXPECT_FALSE(result.all_killed());
  EXPECT_EQ(result.unreached.size(), 2u);
  EXPECT_TRUE(result.survivors.empty());
}

TEST_F(SelftestTest, NamesASurvivor) {
  SelftestOptions options = router({"F1"});
  options.filter = "router.order_and_ties";  // A coarse product keeps the order of plain logits.
  const SelftestResult result = run(options);
  EXPECT_FALSE(result.all_killed());
  EXPECT_TRUE(result.unreached.empty());
  ASSERT_EQ(result.survivors.size(), 2u);
  EXPECT_EQ(result.survivors[0], "F1 on oracle");
}

TEST_F(SelftestTest, SharesCoverEveryFaultOnce) {
  std::size_t rows = 0;
  for (std::size_t index = 1; index <= 3; ++index) {
    SelftestOptions options = router({"F22", "F32", "F34", "F35", "F37"});
    options.filter = "router.weights_sum_to_one";
    options.partition = {index, 3};
    options.seeds = {1};
    rows += run(options).matrix.rows.size();
  }
  EXPECT_EQ(rows, 10u);
}

TEST(Headline, CountsFaultsNotCells) {
  KillMatrix matrix;
  const KillReading reading{"relative_l2", 0.5, 0.1, false};
  const KillCell killed{"a.b", CellState::kKilled, {reading}};
  const KillCell also{"a.c", CellState::kKilled, {reading}};
  const KillCell survived{"a.d", CellState::kSurvived, {}};
  matrix.rows.push_back({"F1", BackendId::kCpu, false, 1, 0.5, {killed, also}, 0});
  matrix.rows.push_back({"F2", BackendId::kCpu, false, 1, 0.995, {survived}, 0});
  matrix.rows.push_back({"F3", BackendId::kCpu, true, 1, 1.0, {survived}, 0});
  const auto lines = headlines(matrix);
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_EQ(lines[0].faults, 2u);
  EXPECT_EQ(lines[0].logits_cosine, 1u);
  EXPECT_EQ(lines[0].all, 1u);
  ASSERT_EQ(lines[0].metrics.size(), 1u);
  EXPECT_EQ(lines[0].metrics[0].kills, 1u);
}

}  // namespace
}  // namespace refute
