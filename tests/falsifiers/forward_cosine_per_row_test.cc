#include "falsifiers/forward_cosine_per_row.h"

#include <gtest/gtest.h>

#include "tests/falsifiers/broken_session.h"
#include "tests/falsifiers/pack_fixture.h"

namespace refute {
namespace {

TEST(ForwardCosinePerRow, HoldsOnTheCpuBackendOfEveryPack) {
  for (const char* name : kPackNames) {
    const LoadedPack loaded(name);
    EXPECT_TRUE(held(run(forward_cosine_per_row_info(), *cpu_backend(), loaded))) << name;
  }
}

Verdict run_broken(const LoadedPack& loaded, const SessionFaults& faults) {
  const auto cpu = cpu_backend();
  const FaultySessionBackend broken(*cpu, faults);
  return run(forward_cosine_per_row_info(), broken, loaded);
}

TEST(ForwardCosinePerRow, OneTokenWithNegatedLogitsIsRefuted) {
  const LoadedPack loaded("kjv-moe-7m");
  SessionFaults faults;
  faults.alter_logits = [](const BrokenCall&, Matrix<double>* logits) {
    for (double& logit : logits->row(11)) logit = -logit;
  };
  EXPECT_TRUE(refuted_by(run_broken(loaded, faults), "logits_cosine", "logits row 11"));
}

TEST(ForwardCosinePerRow, OneTokenOfOneLayerIsRefuted) {
  const LoadedPack loaded("tiny");
  SessionFaults faults;
  faults.alter_trace = [](const BrokenCall&, TraceSite site, Matrix<double>* values) {
    if (site != TraceSite{TracePoint::kFfnResidual, 1}) return;
    for (double& value : values->row(4)) value = 1.0;
  };
  EXPECT_TRUE(refuted_by(run_broken(loaded, faults), "layer_cosine", "blk.1.ffn_residual row 4"));
}

TEST(ForwardCosinePerRow, IsBlindToDoubledLogits) {  // F71: why nothing rests on it alone.
  const LoadedPack loaded("tiny");
  SessionFaults faults;
  faults.alter_logits = [](const BrokenCall&, Matrix<double>* logits) {
    for (double& logit : logits->flat()) logit *= 2.0;
  };
  EXPECT_TRUE(held(run_broken(loaded, faults)));
}

}  // namespace
}  // namespace refute
