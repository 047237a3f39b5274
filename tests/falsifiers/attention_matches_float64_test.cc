#include "falsifiers/attention_matches_float64.h"

#include <gtest/gtest.h>

#include "tests/falsifiers/attention_fault.h"
#include "tests/falsifiers/broken_backend.h"
#include "tests/falsifiers/falsifier_expectations.h"

namespace refute {
namespace {

TEST(AttentionMatchesFloat64, HoldsOnTheReference) {
  expect_held(attention_matches_float64_info());
}

TEST(AttentionMatchesFloat64, HoldsOnASecondImplementation) {
  const Verdict verdict = run_falsifier(attention_matches_float64_info(), attention_with({}));
  EXPECT_TRUE(verdict.held()) << verdict.reason;
}
TEST(AttentionMatchesFloat64, RefutesAMaskThatSeesTheNextToken) {
  expect_refuted(attention_matches_float64_info(), attention_with({.sees_ahead = 1}),
                 "relative_l2");
}
TEST(AttentionMatchesFloat64, RefutesAMaskThatHidesTheOwnToken) {
  expect_refuted(attention_matches_float64_info(), attention_with({.excludes_self = true}),
                 "relative_l2");
}
TEST(AttentionMatchesFloat64, RefutesHeadsTakenModulo) {
  expect_refuted(attention_matches_float64_info(), attention_with({.takes_heads_modulo = true}),
                 "relative_l2");
}
TEST(AttentionMatchesFloat64, RefutesAMissingScale) {
  expect_refuted(attention_matches_float64_info(), attention_with({.scales = false}),
                 "relative_l2");
}
TEST(AttentionMatchesFloat64, RefutesAWrongDenominator) {
  expect_refuted(attention_matches_float64_info(), attention_with({.denominator = 1.00001}),
                 "scale_error");
}

}  // namespace
}  // namespace refute
