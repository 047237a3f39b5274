#include "validators/selftest/attempts.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace refute {
namespace {

TEST(AttemptTask, ComesBackFromItsText) {
  const AttemptTask task{"router.weights_sum_to_one", BackendId::kCpu, 0xFFFFFFFFFFFFFFFF, "F107a"};
  EXPECT_EQ(AttemptTask::parse(task.text()), task);
}

TEST(AttemptResult, ComesBackFromItsTextWithNaN) {
  AttemptResult result;
  result.kind = VerdictKind::kRefuted;
  result.refuted_by = RefutedBy::kMetric;
  result.reason = "bad bytes \xff";
  result.metrics = {{"error", std::numeric_limits<double>::quiet_NaN(), 0x1.8p-20, true, ""}};
  result.cases_run = 3;
  result.hits = 1ull << 60;
  result.reached = {"F1", "F107a"};
  const AttemptResult back = AttemptResult::parse(result.text());
  EXPECT_EQ(back.kind, result.kind);
  EXPECT_EQ(back.refuted_by, result.refuted_by);
  ASSERT_EQ(back.metrics.size(), 1u);
  EXPECT_TRUE(std::isnan(back.metrics[0].worst));
  EXPECT_EQ(back.metrics[0].threshold, 0x1.8p-20);
  EXPECT_TRUE(back.metrics[0].larger_is_better);
  EXPECT_EQ(back.hits, result.hits);
  EXPECT_EQ(back.reached, result.reached);
}

class Attempt : public testing::Test {
 protected:
  void SetUp() override {
    auto subject = load_subject({.model = {}, .expected = "", .num_threads = 1});
    ASSERT_TRUE(subject.has_value());
    subject_.emplace(*std::move(subject));
  }
  AttemptResult attempt(const std::string& falsifier, BackendId backend, const std::string& fault) {
    const AttemptTask task{falsifier, backend, 1, fault};
    return AttemptResult::parse(attempt_work(*subject_, 20, 20)(task.text()));
  }

  std::optional<LoadedSubject> subject_;
};

TEST_F(Attempt, WithoutAFaultHoldsAndSaysWhatIsInReach) {
  const AttemptResult result = attempt("router.weights_sum_to_one", BackendId::kCpu, "");
  EXPECT_EQ(result.kind, VerdictKind::kHeld);
  EXPECT_EQ(std::count(result.reached.begin(), result.reached.end(), "F22"), 1);
  EXPECT_EQ(std::count(result.reached.begin(), result.reached.end(), "F45"), 0) << "an epsilon";
  EXPECT_FALSE(result.outputs_sha256.empty());
}

TEST_F(Attempt, WithAFaultIsRefutedByTheFalsifiersOwnMetricOnThatHostAlone) {
  const AttemptResult wrong = attempt("router.weights_sum_to_one", BackendId::kCpu, "F22");
  EXPECT_EQ(wrong.kind, VerdictKind::kRefuted);
  EXPECT_EQ(wrong.refuted_by, RefutedBy::kMetric);
  EXPECT_GT(wrong.hits, 0u);
  // The fault is gone with the attempt.
  const AttemptResult right = attempt("router.weights_sum_to_one", BackendId::kCpu, "");
  EXPECT_EQ(right.kind, VerdictKind::kHeld);
}

}  // namespace
}  // namespace refute
