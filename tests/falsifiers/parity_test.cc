#include "falsifiers/parity.h"

#include <gtest/gtest.h>

#include <limits>

namespace refute {
namespace {

// The verdict of one case that measures `candidate` against `reference`.
Verdict measured(const Matrix<double>& reference, const Matrix<double>& candidate) {
  Criterion criterion;
  Judge judge(kParityMetrics, criterion);
  check_pinned({"test.parity", "once"}, criterion, &judge, 1,
               [&](PropertyCase& property_case, std::size_t) {
                 measure_parity(property_case, reference.view(), candidate.view(), "y");
               });
  return judge.verdict();
}

TEST(Parity, HoldsWithinTheBoundsAndTakesAllFiveMetrics) {
  const Matrix<double> reference(1, 2, {3.0, 4.0});
  const Verdict verdict = measured(reference, Matrix<double>(1, 2, {3.0, 4.000001}));
  EXPECT_TRUE(verdict.held()) << verdict.reason;
  EXPECT_EQ(verdict.metrics.size(), 5u);
}

TEST(Parity, RefutesAnErrorPastABound) {
  const Matrix<double> reference(1, 2, {3.0, 4.0});
  EXPECT_EQ(measured(reference, Matrix<double>(1, 2, {3.0, 4.001})).kind, VerdictKind::kRefuted);
}

TEST(Parity, RefutesNanAndAnotherShape) {
  const Matrix<double> reference(1, 2, {3.0, 4.0});
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(measured(reference, Matrix<double>(1, 2, {nan, 4.0})).kind, VerdictKind::kRefuted);
  EXPECT_EQ(measured(reference, Matrix<double>(2, 1, {3.0, 4.0})).kind, VerdictKind::kRefuted);
}

TEST(Parity, AVanishingReferenceMustBeMetByVanishingValuesAndShowsNothing) {
  const Matrix<double> zeros(1, 2);
  EXPECT_EQ(measured(zeros, Matrix<double>(1, 2, {0.0, 1e-40})).kind, VerdictKind::kGaveUp);
  EXPECT_EQ(measured(zeros, Matrix<double>(1, 2, {0.0, 1e-20})).kind, VerdictKind::kRefuted);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(measured(zeros, Matrix<double>(1, 2, {0.0, nan})).kind, VerdictKind::kRefuted);
}

TEST(Parity, EqualBitsTellApartWhatComparesEqual) {
  const auto differing = [](double found) {
    Criterion criterion;
    const std::array<MetricInfo, 1> metrics = {kDifferingElements};
    Judge judge(metrics, criterion);
    check_pinned({"test.parity", "bits"}, criterion, &judge, 1,
                 [&](PropertyCase& property_case, std::size_t) {
                   const Matrix<double> expected(1, 1, {0.0});
                   const Matrix<double> other(1, 1, {found});
                   measure_equal_bits(property_case, expected.view(), other.view(), "y");
                 });
    return judge.verdict().kind;
  };
  EXPECT_EQ(differing(0.0), VerdictKind::kHeld);
  EXPECT_EQ(differing(-0.0), VerdictKind::kRefuted);
}

}  // namespace
}  // namespace refute
