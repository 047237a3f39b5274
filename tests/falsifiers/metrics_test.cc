#include "falsifiers/metrics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace refute {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

Matrix<double> matrix(std::size_t rows, std::size_t columns, std::vector<double> values) {
  return Matrix<double>(rows, columns, std::move(values));
}

Result<Comparison> compared(const Matrix<double>& reference, const Matrix<double>& candidate) {
  return compare(reference.view(), candidate.view());
}

TEST(Compare, GivesHandComputedDistances) {
  // |y|^2 = 9 + 16 + 1 + 0 = 26; the error is 0.5 in row 0 and -0.25 in row 1.
  const auto reference = matrix(2, 2, {3.0, 4.0, 1.0, 0.0});
  const auto candidate = matrix(2, 2, {3.5, 4.0, 0.75, 0.0});
  const auto result = compared(reference, candidate);
  ASSERT_TRUE(result) << result.error().message();
  EXPECT_DOUBLE_EQ(result->relative_l2, std::sqrt(0.3125 / 26.0));
  EXPECT_DOUBLE_EQ(result->worst_row_relative_l2, 0.25);
  EXPECT_EQ(result->worst_row, 1u);
  EXPECT_DOUBLE_EQ(result->rms_reference, std::sqrt(26.0 / 4.0));
  EXPECT_DOUBLE_EQ(result->linf_over_rms, 0.5 / std::sqrt(6.5));
  EXPECT_EQ(result->linf_row, 0u);
  EXPECT_EQ(result->linf_column, 0u);
  // <y, y'> = 10.5 + 16 + 0.75 = 27.25
  EXPECT_DOUBLE_EQ(result->scale_error, 27.25 / 26.0 - 1.0);
  EXPECT_DOUBLE_EQ(result->worst_row_cosine, 26.5 / (5.0 * std::sqrt(12.25 + 16.0)));
  EXPECT_EQ(result->worst_cosine_row, 0u);
  EXPECT_DOUBLE_EQ(result->mean_offset_over_rms, 0.0625 / std::sqrt(6.5));
}

TEST(Compare, SeesAScaleThatCosineDoesNot) {
  const auto reference = matrix(1, 3, {1.0, -2.0, 3.0});
  const auto result = compared(reference, matrix(1, 3, {2.0, -4.0, 6.0}));
  ASSERT_TRUE(result);
  EXPECT_NEAR(result->worst_row_cosine, 1.0, 1e-15);
  EXPECT_DOUBLE_EQ(result->scale_error, 1.0);
  EXPECT_DOUBLE_EQ(result->relative_l2, 1.0);
}

TEST(Compare, EqualValuesInTwoBuffersHaveNoDistance) {
  const auto reference = matrix(2, 2, {1.0, 2.0, 0.0, 0.0});
  const auto result = compared(reference, matrix(2, 2, {1.0, 2.0, 0.0, 0.0}));
  ASSERT_TRUE(result);
  EXPECT_EQ(result->relative_l2, 0.0);
  EXPECT_EQ(result->worst_row_relative_l2, 0.0);
  EXPECT_NEAR(result->worst_row_cosine, 1.0, 1e-15);
}

TEST(Compare, ARowOfZerosMustBeZero) {
  const auto reference = matrix(2, 2, {1.0, 2.0, 0.0, 0.0});
  const auto result = compared(reference, matrix(2, 2, {1.0, 2.0, 0.0, 1e-30}));
  ASSERT_TRUE(result);
  EXPECT_EQ(result->worst_row_relative_l2, kInf);
  EXPECT_EQ(result->worst_row, 1u);
  EXPECT_EQ(result->worst_row_cosine, 0.0);
}

TEST(Compare, ACandidateRowOfZerosHasCosineZero) {
  const auto reference = matrix(2, 1, {1.0, 2.0});
  const auto result = compared(reference, matrix(2, 1, {1.0, 0.0}));
  ASSERT_TRUE(result);
  EXPECT_EQ(result->worst_row_cosine, 0.0);
  EXPECT_EQ(result->worst_cosine_row, 1u);
  EXPECT_EQ(result->worst_row_relative_l2, 1.0);
}

TEST(Compare, RefusesNanAndInfinityOnEitherSideWithTheirPlace) {
  const auto good = matrix(2, 2, {1.0, 2.0, 3.0, 4.0});
  for (const double bad : {kNan, kInf, -kInf}) {
    const auto broken = matrix(2, 2, {1.0, 2.0, bad, 4.0});
    for (const auto& result : {compared(good, broken), compared(broken, good)}) {
      ASSERT_FALSE(result);
      EXPECT_EQ(result.error().kind, ErrorKind::kNonFinite);
      EXPECT_NE(result.error().where.find("row 1 column 0"), std::string::npos);
    }
  }
}

TEST(Compare, RefusesAnEmptyTensor) {
  const Matrix<double> empty(0, 4);
  const Matrix<double> other(0, 4);
  ASSERT_FALSE(compared(empty, other));
  EXPECT_EQ(compared(empty, other).error().kind, ErrorKind::kInvalidShape);
}

TEST(Compare, RefusesDifferentShapesOfTheSameSize) {
  const auto result = compared(matrix(2, 3, std::vector<double>(6, 1.0)),
                               matrix(3, 2, std::vector<double>(6, 1.0)));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::kInvalidShape);
  EXPECT_FALSE(result.error().expected.empty());
  EXPECT_FALSE(result.error().found.empty());
}

TEST(Compare, RefusesTheSameBufferTwice) {
  const auto values = matrix(2, 2, {1.0, 2.0, 3.0, 4.0});
  ASSERT_FALSE(compare(values.view(), values.view()));
  EXPECT_EQ(compare(values.view(), values.view()).error().kind, ErrorKind::kInvalidShape);
  const MatrixView<const double> first(values.data(), 1, 3);
  const MatrixView<const double> overlapping(values.data() + 1, 1, 3);
  EXPECT_FALSE(compare(first, overlapping));
}

TEST(Compare, RefusesAReferenceBelowTheFloor) {
  const auto zeros = matrix(1, 2, {0.0, 0.0});
  const auto result = compared(zeros, matrix(1, 2, {0.0, 0.0}));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::kVacuous);
  const auto tiny = matrix(1, 2, {1e-3, 1e-3});
  EXPECT_FALSE(compare(tiny.view(), zeros.view(), 1e-2));
  EXPECT_TRUE(compare(tiny.view(), zeros.view(), 1e-4));
}

TEST(CountNonFinite, CountsNanAndBothInfinities) {
  EXPECT_EQ(count_non_finite(matrix(2, 3, {kNan, 1.0, kInf, -kInf, 0.0, 1e308}).view()), 3u);
  EXPECT_EQ(count_non_finite(Matrix<double>().view()), 0u);
}

TEST(CountDifferingBits, CountsElementsAndTellsZerosApart) {
  const auto a = matrix(1, 4, {0.0, 1.0, kNan, 2.0});
  const auto b = matrix(1, 4, {-0.0, 1.0, kNan, 2.0000000000000004});
  const auto result = count_differing_bits(a.view(), b.view());
  ASSERT_TRUE(result);
  EXPECT_EQ(*result, 2u);
  EXPECT_FALSE(count_differing_bits(a.view(), a.view()));
}

TEST(SoftmaxKl, IsZeroUnderAShiftAndHandComputedOtherwise) {
  const auto reference = matrix(2, 2, {0.0, 0.0, 5.0, 1.0});
  const auto candidate = matrix(2, 2, {0.0, std::log(3.0), 105.0, 101.0});
  const auto result = softmax_kl_per_row(reference.view(), candidate.view());
  ASSERT_TRUE(result);
  // p = (1/2, 1/2), q = (1/4, 3/4): KL = log(2 / sqrt(3)).
  EXPECT_NEAR((*result)[0], std::log(2.0 / std::sqrt(3.0)), 1e-15);
  EXPECT_NEAR((*result)[1], 0.0, 1e-15);
}

TEST(Top1Margins, AreFirstMinusSecondAndZeroOnTies) {
  const auto logits = matrix(3, 3, {1.0, 4.0, 2.5, 7.0, 7.0, 1.0, -1.0, -3.0, -2.0});
  EXPECT_EQ(top1_margins(logits.view()), (std::vector<double>{1.5, 0.0, 1.0}));
  EXPECT_EQ(argmax_per_row(logits.view()), (std::vector<std::size_t>{1, 0, 0}));
}

class CompareRouting : public testing::Test {
 protected:
  Result<RoutingComparison> routed(std::vector<std::int32_t> candidate, double bound) const {
    const Matrix<std::int32_t> ids(1, 2, std::move(candidate));
    return compare_routing(reference_.view(), ids.view(), logits_.view(), bound);
  }

  Matrix<std::int32_t> reference_{1, 2, {3, 0}};
  Matrix<double> logits_{1, 4, {1.0, 0.5, -2.0, 3.0}};  // The gap of rank 2 and 3 is 0.5.
};

TEST_F(CompareRouting, TakesTheSameSetInAnyOrder) {
  const auto result = routed({0, 3}, 1e-6);
  ASSERT_TRUE(result);
  EXPECT_EQ(result->tokens, 1u);
  EXPECT_EQ(result->in_band, 0u);
  EXPECT_EQ(result->wrong_outside, 0u);
}

TEST_F(CompareRouting, RefusesAnotherSetOutsideOfTheBand) {
  const auto result = routed({3, 1}, 0.2);
  ASSERT_TRUE(result);
  EXPECT_EQ(result->in_band, 0u);
  EXPECT_EQ(result->wrong_outside, 1u);
}

TEST_F(CompareRouting, AcceptsANearTieButNotAFarExpertInsideTheBand) {
  const auto near_tie = routed({3, 1}, 0.3);
  ASSERT_TRUE(near_tie);
  EXPECT_EQ(near_tie->in_band, 1u);
  EXPECT_EQ(near_tie->wrong_outside, 0u);
  const auto far = routed({3, 2}, 0.3);
  ASSERT_TRUE(far);
  EXPECT_EQ(far->wrong_outside, 1u);
}

TEST_F(CompareRouting, CountsDuplicateAndImpossibleIdsWhereverTheyAre) {
  for (const auto& ids : {std::vector<std::int32_t>{3, 3}, {3, 4}, {-1, 3}}) {
    const auto result = routed(ids, 10.0);
    ASSERT_TRUE(result);
    EXPECT_EQ(result->in_band, 1u);
    EXPECT_EQ(result->wrong_outside, 1u);
  }
}

TEST_F(CompareRouting, ANanBoundOpensNoBand) {
  const auto result = routed({3, 1}, kNan);
  ASSERT_TRUE(result);
  EXPECT_EQ(result->in_band, 0u);
  EXPECT_EQ(result->wrong_outside, 1u);
}

TEST_F(CompareRouting, RefusesWhatItCannotCompare) {
  const Matrix<std::int32_t> none(0, 2);
  const Matrix<std::int32_t> none_either(0, 2);
  const Matrix<double> no_logits(0, 4);
  EXPECT_FALSE(compare_routing(none.view(), none_either.view(), no_logits.view(), 0.1));
  EXPECT_FALSE(compare_routing(reference_.view(), reference_.view(), logits_.view(), 0.1));
}

}  // namespace
}  // namespace refute
