#include "falsifiers/judge.h"

#include <gtest/gtest.h>

#include <array>
#include <limits>

namespace refute {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

constexpr std::array<MetricInfo, 2> kMetrics = {{
    {"error", "An error, relative.", false, 1e-3},
    {"cosine", "A direction.", true, 0.99},
}};

Judge judge_with(const Criterion& criterion = {}) { return Judge(kMetrics, criterion); }

// Everything measured once and well.
Judge good_judge(const Criterion& criterion = {}) {
  Judge judge = judge_with(criterion);
  judge.count_case(false);
  judge.measure("error", 1e-4, "row 0");
  judge.measure("cosine", 0.999, "row 0");
  return judge;
}

TEST(Judge, HoldsWhenEveryMetricMeetsItsBound) {
  const Verdict verdict = good_judge().verdict();
  EXPECT_EQ(verdict.kind, VerdictKind::kHeld) << verdict.reason;
  EXPECT_EQ(verdict.cases_run, 1u);
  ASSERT_EQ(verdict.metrics.size(), 2u);
  EXPECT_EQ(verdict.metrics[0].threshold, 1e-3);
}

TEST(Judge, AcceptsAValueEqualToItsBound) {
  Judge judge = good_judge();
  EXPECT_TRUE(judge.measure("error", 1e-3, "row 1"));
  EXPECT_TRUE(judge.measure("cosine", 0.99, "row 1"));
  EXPECT_TRUE(judge.verdict().held());
}

TEST(Judge, RefutesAndNamesPlaceMetricValueAndBoundOfTheFirstFailure) {
  Judge judge = good_judge();
  EXPECT_FALSE(judge.measure("error", 2e-3, "layer 2 moe_out row 5"));
  EXPECT_FALSE(judge.measure("error", 3e-3, "layer 3"));
  const Verdict verdict = judge.verdict();
  EXPECT_EQ(verdict.kind, VerdictKind::kRefuted);
  for (const char* part : {"layer 2 moe_out row 5", "error", "0.002", "0.001"}) {
    EXPECT_NE(verdict.reason.find(part), std::string::npos) << part << " in " << verdict.reason;
  }
  EXPECT_EQ(verdict.metrics[0].worst, 3e-3);
  EXPECT_EQ(verdict.metrics[0].where, "layer 3");
}

TEST(Judge, TheDirectionOfACosineIsNotThatOfAnError) {
  Judge judge = good_judge();
  EXPECT_FALSE(judge.measure("cosine", 0.5, "row 1"));
  EXPECT_EQ(judge.verdict().kind, VerdictKind::kRefuted);
  EXPECT_EQ(judge.verdict().metrics[1].worst, 0.5);
}

TEST(Judge, NanNeverPassesAndStaysTheWorst) {
  for (const char* metric : {"error", "cosine"}) {
    Judge judge = good_judge();
    EXPECT_FALSE(judge.measure(metric, kNan, "row 3"));
    judge.measure(metric, metric[0] == 'e' ? kInf : -1.0, "row 4");
    const Verdict verdict = judge.verdict();
    EXPECT_EQ(verdict.kind, VerdictKind::kRefuted);
    bool found = false;
    for (const MetricReading& reading : verdict.metrics) {
      if (reading.metric != metric) continue;
      found = true;
      EXPECT_TRUE(reading.worst != reading.worst);
      EXPECT_EQ(reading.where, "row 3");
      EXPECT_FALSE(reading.passed());
    }
    EXPECT_TRUE(found);
  }
}

TEST(Judge, ANanIsNotForgottenWhenGoodValuesFollow) {
  Judge judge = judge_with();
  judge.count_case(false);
  EXPECT_FALSE(judge.measure("error", kNan, "row 0"));
  EXPECT_TRUE(judge.measure("error", 0.0, "row 1"));
  EXPECT_TRUE(judge.measure("cosine", 1.0, "row 1"));
  EXPECT_EQ(judge.verdict().kind, VerdictKind::kRefuted);
}

TEST(Judge, ZeroCasesGiveUp) {
  Judge judge = judge_with();
  judge.measure("error", 0.0, "row 0");
  judge.measure("cosine", 1.0, "row 0");
  EXPECT_EQ(judge.verdict().kind, VerdictKind::kGaveUp);
}

TEST(Judge, AMetricNeverMeasuredGivesUpAndIsNamed) {
  Judge judge = judge_with();
  judge.count_case(false);
  judge.measure("error", 0.0, "row 0");
  EXPECT_EQ(judge.verdict().kind, VerdictKind::kGaveUp);
  EXPECT_NE(judge.verdict().reason.find("cosine"), std::string::npos);
}

TEST(Judge, AFreshJudgeHasNotHeld) { EXPECT_EQ(judge_with().verdict().kind, VerdictKind::kGaveUp); }

TEST(Judge, AFailedCaseAloneRefutes) {
  Judge judge = good_judge();
  judge.count_case(true);
  EXPECT_EQ(judge.verdict().kind, VerdictKind::kRefuted);
  EXPECT_EQ(judge.verdict().cases_failed, 1u);
}

TEST(Judge, ErrorBeatsRefutedBeatsGaveUp) {
  Judge judge = good_judge();
  judge.give_up("guard");
  EXPECT_EQ(judge.verdict().kind, VerdictKind::kGaveUp);
  EXPECT_EQ(judge.verdict().reason, "guard");
  judge.refute("accepted 255 elements for 256");
  EXPECT_EQ(judge.verdict().kind, VerdictKind::kRefuted);
  judge.fail("no memory");
  EXPECT_EQ(judge.verdict().kind, VerdictKind::kError);
  EXPECT_EQ(judge.verdict().reason, "no memory");
}

TEST(Judge, ABrokenBoundIsNotHiddenByGivingUp) {
  Judge judge = good_judge();
  judge.measure("error", 1.0, "row 0");
  judge.give_up("guard");
  EXPECT_EQ(judge.verdict().kind, VerdictKind::kRefuted);
}

TEST(Judge, AStricterGateReplacesTheCeiling) {
  Criterion criterion;
  criterion.gates["error"] = 1e-5;
  const Judge judge = good_judge(criterion);
  EXPECT_EQ(judge.threshold("error"), 1e-5);
  EXPECT_EQ(judge.verdict().kind, VerdictKind::kRefuted);
}

TEST(Judge, AGateThatIsLooserUnknownOrNotFiniteIsAnError) {
  const std::array<std::pair<const char*, double>, 7> gates = {{{"error", 1e-1},
                                                                {"error", kInf},
                                                                {"error", kNan},
                                                                {"error", -1.0},
                                                                {"cosine", 0.5},
                                                                {"cosine", kNan},
                                                                {"relative_l2", 1e-9}}};
  for (const auto& [name, bound] : gates) {
    Criterion criterion;
    criterion.gates[name] = bound;
    EXPECT_EQ(good_judge(criterion).verdict().kind, VerdictKind::kError) << name << " " << bound;
  }
}

TEST(Judge, KeepsNotesCounterexampleAndDiscards) {
  Judge judge = good_judge();
  judge.note("in band: 2 of 100 tokens");
  judge.count_discarded(3);
  judge.set_counterexample("k = 1", "a.b/c@1.2");
  const Verdict verdict = judge.verdict();
  EXPECT_EQ(verdict.notes.size(), 1u);
  EXPECT_EQ(verdict.cases_discarded, 3u);
  EXPECT_EQ(verdict.counterexample, "k = 1");
  EXPECT_EQ(verdict.replay_token, "a.b/c@1.2");
}

}  // namespace
}  // namespace refute
