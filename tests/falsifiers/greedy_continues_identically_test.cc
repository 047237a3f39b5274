#include "falsifiers/greedy_continues_identically.h"

#include <gtest/gtest.h>

#include "tests/falsifiers/broken_session.h"
#include "tests/falsifiers/pack_fixture.h"

namespace refute {
namespace {

TEST(GreedyContinuesIdentically, HoldsOnTheOracle) {
  const LoadedPack loaded("kjv-moe-7m");
  EXPECT_TRUE(held(run(greedy_continues_identically_info(), *exact_oracle(), loaded)));
}

TEST(GreedyContinuesIdentically, HoldsOnTheCpuBackend) {
  const LoadedPack loaded("kjv-moe-7m");
  EXPECT_TRUE(held(run(greedy_continues_identically_info(), *cpu_backend(), loaded)));
}

TEST(GreedyContinuesIdentically, WrongRopeThetaIsRefuted) {  // F52
  const LoadedPack loaded("kjv-moe-7m");
  const ChangedModel changed(loaded.model, wrong_rope_theta());
  SessionFaults faults;
  faults.runs = &changed.model();
  for (const auto& sound : {exact_oracle(), cpu_backend()}) {
    const FaultySessionBackend broken(*sound, faults);
    EXPECT_TRUE(refuted_by(run(greedy_continues_identically_info(), broken, loaded), "wrong_tokens",
                           "token"))
        << sound->description();
  }
}

TEST(GreedyContinuesIdentically, OneWrongTokenOfTheOracleIsRefutedWhereItIs) {
  const LoadedPack loaded("kjv-moe-7m");
  SessionFaults faults;
  faults.alter_logits = [](const BrokenCall& call, Matrix<double>* logits) {
    if (call.position == 70) (*logits)(0, 1) = 1e3;
  };
  const auto oracle = exact_oracle();
  const FaultySessionBackend broken(*oracle, faults);
  EXPECT_TRUE(refuted_by(run(greedy_continues_identically_info(), broken, loaded), "wrong_tokens",
                         "token 71"));
}

TEST(GreedyContinuesIdentically, APackWithoutAContinuationIsNotRun) {
  const LoadedPack loaded("nano");
  EXPECT_EQ(run(greedy_continues_identically_info(), *exact_oracle(), loaded).kind,
            VerdictKind::kNotRun);
}

}  // namespace
}  // namespace refute
