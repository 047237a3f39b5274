#include "falsifiers/nll_fast_within_budget.h"

#include <gtest/gtest.h>

#include "tests/falsifiers/broken_session.h"
#include "tests/falsifiers/pack_fixture.h"

namespace refute {
namespace {

TEST(NllFastWithinBudget, HoldsOnTheCpuBackend) {
  const LoadedPack loaded("kjv-moe-7m");
  EXPECT_TRUE(held(run(nll_fast_within_budget_info(), *cpu_backend(), loaded)));
}

TEST(NllFastWithinBudget, DoubledLogitsAreRefuted) {  // F71
  const LoadedPack loaded("kjv-moe-7m");
  SessionFaults faults;
  faults.alter_logits = [](const BrokenCall&, Matrix<double>* logits) {
    for (double& logit : logits->flat()) logit *= 2.0;
  };
  const auto cpu = cpu_backend();
  const FaultySessionBackend broken(*cpu, faults);
  EXPECT_TRUE(
      refuted_by(run(nll_fast_within_budget_info(), broken, loaded), "nll_error", "4 windows"));
}

TEST(NllFastWithinBudget, WrongRopeThetaIsRefuted) {  // F52
  const LoadedPack loaded("kjv-moe-7m");
  const ChangedModel changed(loaded.model, wrong_rope_theta());
  SessionFaults faults;
  faults.runs = &changed.model();
  const auto cpu = cpu_backend();
  const FaultySessionBackend broken(*cpu, faults);
  EXPECT_TRUE(
      refuted_by(run(nll_fast_within_budget_info(), broken, loaded), "nll_error", "4 windows"));
}

}  // namespace
}  // namespace refute
