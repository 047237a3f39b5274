#include "falsifiers/comparison_gates.h"

#include <gtest/gtest.h>

#include <array>
#include <limits>
#include <string>

namespace refute {
namespace {

constexpr std::array<MetricInfo, 2> kMetrics = {{
    {"error", "relative L2", false, 1e-3},
    {"differing", "elements that differ", false, 0.5},
}};
constexpr ComparisonGates kGates = {.relative_l2 = "error",
                                    .worst_row_relative_l2 = "",
                                    .linf_over_rms = "",
                                    .scale_error = "",
                                    .worst_row_cosine = "",
                                    .mean_offset_over_rms = ""};

VerdictKind judge(const Matrix<double>& reference, const Matrix<double>& candidate) {
  Judge judge(kMetrics, {});
  judge.measure("differing", 0.0, "elsewhere");
  measure_comparison(reference.view(), candidate.view(), kGates, "here", &judge);
  return judge.verdict().kind;
}

TEST(ComparisonGates, HoldsWithinTheGateAndRefutesPastIt) {
  const Matrix<double> reference(1, 2, {1.0, 2.0});
  EXPECT_EQ(judge(reference, Matrix<double>(1, 2, {1.0, 2.001})), VerdictKind::kHeld);
  EXPECT_EQ(judge(reference, Matrix<double>(1, 2, {1.0, 2.01})), VerdictKind::kRefuted);
}

TEST(ComparisonGates, WhatCannotBeComparedNeverHolds) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Matrix<double> reference(1, 2, {1.0, 2.0});
  EXPECT_EQ(judge(reference, Matrix<double>(2, 1)), VerdictKind::kRefuted);
  EXPECT_EQ(judge(reference, Matrix<double>(1, 2, {1.0, nan})), VerdictKind::kRefuted);
  EXPECT_EQ(judge(Matrix<double>(1, 2, {nan, 1.0}), reference), VerdictKind::kError);
  // The case counts as failed: zeros show nothing.
  EXPECT_NE(judge(Matrix<double>(1, 2), Matrix<double>(1, 2)), VerdictKind::kHeld);
}

TEST(ComparisonGates, CountsDifferingElements) {
  const Matrix<double> reference(1, 2, {1.0, 0.0});
  const Matrix<double> negative_zero(1, 2, {1.0, -0.0});
  Judge judge(kMetrics, {});
  judge.measure("error", 0.0, "elsewhere");
  EXPECT_FALSE(
      measure_differing("differing", reference.view(), negative_zero.view(), "here", &judge));
  EXPECT_EQ(judge.verdict().kind, VerdictKind::kRefuted);
  EXPECT_NE(judge.verdict().reason.find("here"), std::string::npos);
}

TEST(ComparisonGates, NumbersForNotesAreShort) { EXPECT_EQ(short_number(1.234e-7), "1.2e-07"); }

}  // namespace
}  // namespace refute
