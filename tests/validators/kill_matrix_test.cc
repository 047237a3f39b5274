#include "validators/kill_matrix.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "falsifiers/fault_catalogue.h"
#include "falsifiers/registry.h"

namespace refute {
namespace {

KillMatrix sample() {
  KillMatrix matrix;
  matrix.subject = "model";
  matrix.subject_sha256 = std::string(64, 'a');
  matrix.seeds = {1, 2, 3};
  matrix.cases = 100;
  FaultRow row;
  row.fault = "F22";
  row.host = BackendId::kCpu;
  row.hits = 12;
  row.logits_cosine = std::numeric_limits<double>::quiet_NaN();
  row.unreached_by = 7;
  row.cells = {{"moe.parity", CellState::kKilled, {{"relative_l2", 0.25, 1e-3, false}}},
               {"order.check", CellState::kKilled, {}},
               {"repeats", CellState::kSurvived, {}}};
  matrix.rows.push_back(row);
  matrix.noise = {{"moe.parity", BackendId::kCpu, "relative_l2", 1e-5, 1e-3, false}};
  return matrix;
}

TEST(KillMatrix, ComesBackFromItsJson) {
  const std::string text = write_kill_matrix(sample());
  const auto back = read_kill_matrix("here", text);
  ASSERT_TRUE(back.has_value()) << back.error().message();
  EXPECT_EQ(write_kill_matrix(*back), text);
  const FaultRow* row = back->find("F22", BackendId::kCpu);
  ASSERT_NE(row, nullptr);
  EXPECT_TRUE(std::isnan(row->logits_cosine));
  EXPECT_TRUE(row->killed());
  ASSERT_EQ(row->cells.size(), 3u);
  EXPECT_NEAR(row->cells[0].margin(), 250.0, 1e-9);
  EXPECT_TRUE(std::isinf(row->cells[1].margin()));
}

TEST(KillMatrix, RefusesWhatItDoesNotWrite) {
  const std::string text = write_kill_matrix(sample());
  for (const char* broken : {"", "{}", "[]", "{\"schema\": \"other\"}"}) {
    EXPECT_FALSE(read_kill_matrix("here", broken)) << broken;
  }
  std::string wrong = text;
  wrong.replace(wrong.find("killed"), 6, "kilned");
  const auto result = read_kill_matrix("here", wrong);
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().message().find("kilned"), std::string::npos);
}

TEST(KillMatrix, NamesEveryLostKillAlsoWhereAnotherStillKills) {
  const KillMatrix before = sample();
  EXPECT_TRUE(lost_kills(before, before, false).empty());
  KillMatrix after = before;
  after.rows[0].cells[0].state = CellState::kSurvived;
  ASSERT_EQ(lost_kills(before, after, false).size(), 1u);
  EXPECT_EQ(lost_kills(before, after, false)[0], "moe.parity no longer kills F22 on cpu: survived");
  after.rows[0].cells.erase(after.rows[0].cells.begin());
  EXPECT_EQ(lost_kills(before, after, false).size(), 1u);
  EXPECT_TRUE(lost_kills(before, after, true).empty()) << "a filter left it out";
  EXPECT_EQ(gained_kills(after, before).size(), 1u);
}

TEST(KillMatrix, DoesNotMissABackendThatWasNotMeasured) {
  KillMatrix committed = sample();
  committed.rows.push_back(committed.rows[0]);
  committed.rows.back().host = BackendId::kCuda;
  EXPECT_TRUE(lost_kills(committed, sample(), false).empty());
  committed.rows.back().host = BackendId::kCpu;
  committed.rows.back().fault = "F23";
  EXPECT_EQ(lost_kills(committed, sample(), false).size(), 1u);
}

TEST(KillMatrix, SeparatesAKillFromTheNoise) {
  KillMatrix matrix = sample();
  // 1e-3 <= sqrt(1e-5 * 0.25): clear.
  EXPECT_TRUE(matrix.kills_clearly("moe.parity", "F22", kAllBackends));
  EXPECT_TRUE(matrix.kills_clearly("order.check", "F22", kAllBackends)) << "by its check";
  EXPECT_FALSE(matrix.kills_clearly("repeats", "F22", kAllBackends));
  // A fault just past the bound is a kill, and too narrow a one.
  matrix.rows[0].cells[0].by[0].worst = 2e-3;
  EXPECT_TRUE(matrix.kills("moe.parity", "F22", kAllBackends));
  EXPECT_FALSE(matrix.kills_clearly("moe.parity", "F22", kAllBackends));
  const auto margins = matrix.margins();
  ASSERT_EQ(margins.size(), 1u);
  EXPECT_TRUE(margins[0].fault.empty());
}

TEST(KillMatrix, TakesTheSmallestClearFaultAsTheFloor) {
  KillMatrix matrix = sample();
  matrix.rows.push_back(matrix.rows[0]);
  matrix.rows[1].fault = "F37";
  matrix.rows[1].cells[0].by[0].worst = 0.16;
  const auto margins = matrix.margins();
  ASSERT_EQ(margins.size(), 1u);
  EXPECT_EQ(margins[0].fault, "F37");
  EXPECT_NEAR(margins[0].geometric_mean(), std::sqrt(1e-5 * 0.16), 1e-12);
}

// The committed matrix speaks of this very code.

TEST(CommittedKillMatrix, HasEveryHostedFaultAndEachIsKilled) {
  const KillMatrix& matrix = committed_kill_matrix();
  std::size_t rows = 0;
  for (const FaultInfo& fault : fault_catalogue()) {
    for (const BackendId host : fault.hosts) {
      if (host != BackendId::kOracle && host != BackendId::kCpu) continue;
      const FaultRow* row = matrix.find(fault.id, host);
      ASSERT_NE(row, nullptr) << fault.id << " on " << backend_name(host);
      ++rows;
      EXPECT_GT(row->hits, 0u) << fault.id << " on " << backend_name(host);
      EXPECT_EQ(row->killed(), fault.kind != FaultKind::kEquivalent)
          << fault.id << " on " << backend_name(host);
    }
  }
  EXPECT_GT(rows, 100u);
}

TEST(CommittedKillMatrix, WasMeasuredWithTheThresholdsOfTheRegistry) {
  std::set<std::string> measured;
  for (const NoiseReading& reading : committed_kill_matrix().noise) {
    const FalsifierInfo* falsifier = find_falsifier(reading.falsifier);
    ASSERT_NE(falsifier, nullptr) << reading.falsifier;
    measured.insert(reading.falsifier);
    const auto metric =
        std::find_if(falsifier->metrics.begin(), falsifier->metrics.end(),
                     [&](const MetricInfo& info) { return info.name == reading.metric; });
    ASSERT_NE(metric, falsifier->metrics.end()) << reading.falsifier << " " << reading.metric;
    EXPECT_NEAR(metric->ceiling, reading.threshold, 1e-3 * std::abs(metric->ceiling))
        << reading.falsifier << " " << reading.metric
        << ": measure the matrix again with `refute selftest --write contracts/kill-matrix.json`";
  }
  EXPECT_GT(measured.size(), 40u);
}

// The test that a loosened threshold does not pass: the registry's own bounds, not those that the
// matrix remembers.
TEST(CommittedKillMatrix, NoThresholdIsPastTheGeometricMeanOfNoiseAndFault) {
  std::size_t bounded = 0;
  for (const ThresholdMargin& margin : committed_kill_matrix().margins()) {
    if (margin.fault.empty()) continue;
    ++bounded;
    const FalsifierInfo* falsifier = find_falsifier(margin.falsifier);
    ASSERT_NE(falsifier, nullptr);
    for (const MetricInfo& metric : falsifier->metrics) {
      if (metric.name != margin.metric) continue;
      const double bound = distance_from_perfect(metric.ceiling, metric.larger_is_better);
      EXPECT_LE(bound, margin.geometric_mean() * 1.001) << margin.falsifier << " " << margin.metric;
      EXPECT_GE(margin.floor, 3.0 * margin.noise) << margin.falsifier << " " << margin.metric;
    }
  }
  EXPECT_GT(bounded, 30u);
}

}  // namespace
}  // namespace refute
