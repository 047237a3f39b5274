#include "falsifiers/forward_is_causal.h"

#include <gtest/gtest.h>

#include "tests/falsifiers/broken_session.h"
#include "tests/falsifiers/pack_fixture.h"

namespace refute {
namespace {

TEST(ForwardIsCausal, HoldsOnTheOracleOfEveryPack) {
  for (const char* name : kPackNames) {
    const LoadedPack loaded(name);
    EXPECT_TRUE(held(run(forward_is_causal_info(), *exact_oracle(), loaded))) << name;
  }
}

TEST(ForwardIsCausal, HoldsOnTheCpuBackendOfEveryPack) {
  for (const char* name : kPackNames) {
    const LoadedPack loaded(name);
    EXPECT_TRUE(held(run(forward_is_causal_info(), *cpu_backend(), loaded))) << name;
  }
}

Verdict run_broken(const SessionFaults& faults) {
  const LoadedPack loaded("nano");
  const auto cpu = cpu_backend();
  const FaultySessionBackend broken(*cpu, faults);
  return run(forward_is_causal_info(), broken, loaded);
}

TEST(ForwardIsCausal, AMaskThatSeesTheNextTokenIsRefuted) {  // F62
  SessionFaults faults;
  faults.alter_trace = [](const BrokenCall& call, TraceSite site, Matrix<double>* values) {
    if (site != TraceSite{TracePoint::kAttnHeads, 1}) return;
    for (std::size_t t = 0; t + 1 < call.tokens.size(); ++t) {
      (*values)(t, 0) += 1e-3 * static_cast<double>(call.tokens[t + 1]);
    }
  };
  EXPECT_TRUE(
      refuted_by(run_broken(faults), "differing_before", "token 1 changed, blk.1.attn_heads"));
}

TEST(ForwardIsCausal, TokensThatDoNotSeeThePastFailTheControl) {
  SessionFaults faults;
  faults.alter_logits = [](const BrokenCall& call, Matrix<double>* logits) {
    for (std::size_t t = 0; t < logits->rows(); ++t) {
      for (double& logit : logits->row(t)) logit = static_cast<double>(call.tokens[t]);
    }
  };
  EXPECT_TRUE(refuted_by(run_broken(faults), "unchanged_after", "token 1 changed"));
}

TEST(ForwardIsCausal, ATokenThatChangesNothingFailsTheControl) {
  SessionFaults faults;
  faults.alter_logits = [](const BrokenCall&, Matrix<double>* logits) {
    for (double& logit : logits->flat()) logit = 1.0;
  };
  EXPECT_TRUE(refuted_by(run_broken(faults), "unchanged_after", "token 1 changed"));
}

}  // namespace
}  // namespace refute
