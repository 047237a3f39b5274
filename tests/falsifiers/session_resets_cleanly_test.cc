#include "falsifiers/session_resets_cleanly.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/falsifiers/broken_session.h"
#include "tests/falsifiers/pack_fixture.h"

namespace refute {
namespace {

TEST(SessionResetsCleanly, HoldsOnTheOracleOfEveryPack) {
  for (const char* name : kPackNames) {
    const LoadedPack loaded(name);
    EXPECT_TRUE(held(run(session_resets_cleanly_info(), *exact_oracle(), loaded))) << name;
  }
}

TEST(SessionResetsCleanly, HoldsOnTheCpuBackendOfEveryPack) {
  for (const char* name : kPackNames) {
    const LoadedPack loaded(name);
    EXPECT_TRUE(held(run(session_resets_cleanly_info(), *cpu_backend(), loaded))) << name;
  }
}

Verdict run_broken(const SessionFaults& faults) {
  const LoadedPack loaded("nano");
  const auto cpu = cpu_backend();
  const FaultySessionBackend broken(*cpu, faults);
  return run(session_resets_cleanly_info(), broken, loaded);
}

TEST(SessionResetsCleanly, ARollbackThatKeepsItsPositionsIsRefuted) {
  SessionFaults faults;
  faults.ignores_rollback = true;
  EXPECT_EQ(run_broken(faults).kind, VerdictKind::kRefuted);
}

TEST(SessionResetsCleanly, WhatIsLeftAfterAResetIsRefuted) {
  SessionFaults faults;
  // Of the calls, the fourth is the one after the reset.
  faults.alter_trace = [](const BrokenCall& call, TraceSite site, Matrix<double>* values) {
    if (call.number == 3 && site == TraceSite{TracePoint::kAttnHeads, 0}) (*values)(8, 0) += 0.5;
  };
  EXPECT_TRUE(
      refuted_by(run_broken(faults), "differing_elements", "after a reset, blk.0.attn_heads"));
}

TEST(SessionResetsCleanly, SessionsThatSeeEachOtherAreRefuted) {
  SessionFaults faults;
  faults.alter_logits = [](const BrokenCall& call, Matrix<double>* logits) {
    if (!call.traced && call.tokens.size() == 1 && call.position == 4) (*logits)(0, 1) += 0.5;
  };
  EXPECT_TRUE(refuted_by(run_broken(faults), "differing_elements", "two sessions in turns"));
}

TEST(SessionResetsCleanly, ARefusedTokenThatCountsIsRefuted) {
  SessionFaults faults;
  faults.loses_a_position = true;
  const Verdict verdict = run_broken(faults);
  EXPECT_EQ(verdict.kind, VerdictKind::kRefuted);
  EXPECT_NE(verdict.reason.find("length at 10"), std::string::npos) << verdict.reason;
}

}  // namespace
}  // namespace refute
