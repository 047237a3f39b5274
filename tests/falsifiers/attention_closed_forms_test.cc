#include "falsifiers/attention_closed_forms.h"

#include <gtest/gtest.h>

#include "tests/falsifiers/attention_fault.h"
#include "tests/falsifiers/broken_backend.h"
#include "tests/falsifiers/falsifier_expectations.h"

namespace refute {
namespace {

TEST(AttentionClosedForms, HoldsOnTheReference) { expect_held(attention_closed_forms_info()); }

TEST(AttentionClosedForms, HoldsOnASecondImplementation) {
  const Verdict verdict = run_falsifier(attention_closed_forms_info(), attention_with({}));
  EXPECT_TRUE(verdict.held()) << verdict.reason;
}
TEST(AttentionClosedForms, RefutesAMaskThatSeesTheNextToken) {
  expect_refuted(attention_closed_forms_info(), attention_with({.sees_ahead = 1}), "leaks");
}
TEST(AttentionClosedForms, RefutesAMaskThatHidesTheOwnToken) {
  expect_refuted(attention_closed_forms_info(), attention_with({.excludes_self = true}), "leaks");
}
TEST(AttentionClosedForms, RefutesHeadsTakenModulo) {
  expect_refuted(attention_closed_forms_info(), attention_with({.takes_heads_modulo = true}),
                 "wrong_heads");
}
TEST(AttentionClosedForms, RefutesAWrongDenominatorByConstantValues) {
  expect_refuted(attention_closed_forms_info(), attention_with({.denominator = 1.00001}),
                 "constant_error");
}

TEST(AttentionClosedForms, RefutesAMissingScaleByTwoPositions) {  // F66
  expect_refuted(attention_closed_forms_info(), attention_with({.scales = false}),
                 "two_position_error");
}

}  // namespace
}  // namespace refute
