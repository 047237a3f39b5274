#include "falsifiers/fidelity_logits.h"

#include <gtest/gtest.h>

#include "tests/falsifiers/broken_session.h"
#include "tests/falsifiers/pack_fixture.h"

namespace refute {
namespace {

TEST(FidelityLogits, HoldsOnTheCpuBackendOfEveryPack) {
  for (const char* name : kPackNames) {
    const LoadedPack loaded(name);
    EXPECT_TRUE(held(run(fidelity_logits_info(), *cpu_backend(), loaded))) << name;
  }
}

Verdict run_broken(const LoadedPack& loaded, const SessionFaults& faults) {
  const auto cpu = cpu_backend();
  const FaultySessionBackend broken(*cpu, faults);
  return run(fidelity_logits_info(), broken, loaded);
}

TEST(FidelityLogits, OnePercentOfScaleIsRefuted) {
  const LoadedPack loaded("tiny");
  SessionFaults faults;
  faults.alter_logits = [](const BrokenCall&, Matrix<double>* logits) {
    for (double& logit : logits->flat()) logit *= 1.01;
  };
  EXPECT_TRUE(refuted_by(run_broken(loaded, faults), "scale_error", "logits"));
}

TEST(FidelityLogits, AnOffsetThatSoftmaxHidesIsRefuted) {  // F72
  const LoadedPack loaded("kjv-moe-7m");
  SessionFaults faults;
  faults.alter_logits = [](const BrokenCall&, Matrix<double>* logits) {
    for (double& logit : logits->flat()) logit += 3.0;
  };
  EXPECT_TRUE(refuted_by(run_broken(loaded, faults), "mean_offset_over_rms", "logits"));
}

TEST(FidelityLogits, WrongRopeThetaIsRefuted) {  // F52
  const LoadedPack loaded("kjv-moe-7m");
  const ChangedModel changed(loaded.model, wrong_rope_theta());
  SessionFaults faults;
  faults.runs = &changed.model();
  EXPECT_TRUE(refuted_by(run_broken(loaded, faults), "kl_mean", "logits"));
}

TEST(FidelityLogits, ExpertsChosenAtRandomInTheFreeRunAreRefuted) {
  const LoadedPack loaded("nano");
  SessionFaults faults;
  faults.alter_trace = [](const BrokenCall&, TraceSite site, Matrix<double>* values) {
    if (site.point != TracePoint::kRouterIndex) return;
    for (std::size_t t = 0; t < values->rows(); ++t) {
      for (std::size_t r = 0; r < values->columns(); ++r) {
        (*values)(t, r) = static_cast<double>((t + r) % 4);
      }
    }
  };
  EXPECT_TRUE(refuted_by(run_broken(loaded, faults), "routes_wrong", "router_index"));
}

}  // namespace
}  // namespace refute
