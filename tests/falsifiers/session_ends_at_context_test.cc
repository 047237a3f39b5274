#include "falsifiers/session_ends_at_context.h"

#include <gtest/gtest.h>

#include "tests/falsifiers/broken_backend.h"
#include "tests/falsifiers/synthetic_expectations.h"

namespace refute {
namespace {

TEST(SessionEndsAtContext, HoldsOnTheReference) { expect_held(session_ends_at_context_info()); }

TEST(SessionEndsAtContext, RefutesASessionThatIsCutToTheContext) {
  BrokenBackend broken;
  broken.clamps_capacity = true;
  expect_refuted(session_ends_at_context_info(), broken, "accepted");
}

TEST(SessionEndsAtContext, RefutesARefusedTokenThatCounts) {
  SessionFaults faults;
  faults.loses_a_position = true;
  expect_faults_refuted(session_ends_at_context_info(), faults, "accepted");
}

TEST(SessionEndsAtContext, RefutesALastPositionWithTheAngleBefore) {  // F99
  SessionFaults faults;
  faults.alter_logits = [](const BrokenCall& call, Matrix<double>* logits) {
    if (call.position == 23) (*logits)(0, 0) += 1e-3;
  };
  expect_faults_refuted(session_ends_at_context_info(), faults, "differing_elements");
}

}  // namespace
}  // namespace refute
