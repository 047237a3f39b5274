#include "falsifiers/forward_finite.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "tests/falsifiers/broken_session.h"
#include "tests/falsifiers/pack_fixture.h"

namespace refute {
namespace {

TEST(ForwardFinite, HoldsOnTheOracleOfEveryPack) {
  for (const char* name : kPackNames) {
    const LoadedPack loaded(name);
    EXPECT_TRUE(held(run(forward_finite_info(), *exact_oracle(), loaded))) << name;
  }
}

TEST(ForwardFinite, HoldsOnTheCpuBackendOfEveryPack) {
  for (const char* name : kPackNames) {
    const LoadedPack loaded(name);
    EXPECT_TRUE(held(run(forward_finite_info(), *cpu_backend(), loaded))) << name;
  }
}

Verdict run_broken(const SessionFaults& faults) {
  const LoadedPack loaded("nano");
  const auto cpu = cpu_backend();
  const FaultySessionBackend broken(*cpu, faults);
  return run(forward_finite_info(), broken, loaded);
}

TEST(ForwardFinite, ANaNInOneLayerIsRefutedThere) {
  SessionFaults faults;
  faults.alter_trace = [](const BrokenCall&, TraceSite site, Matrix<double>* values) {
    if (site == TraceSite{TracePoint::kMoeOut, 1}) (*values)(0, 7) = std::nan("");
  };
  EXPECT_TRUE(refuted_by(run_broken(faults), "non_finite", "blk.1.moe_out"));
}

TEST(ForwardFinite, AResidualThatExplodesIsRefuted) {
  SessionFaults faults;
  faults.alter_trace = [](const BrokenCall&, TraceSite site, Matrix<double>* values) {
    if (site != TraceSite{TracePoint::kFfnResidual, 1}) return;
    for (double& value : values->flat()) value *= 400.0;
  };
  EXPECT_TRUE(refuted_by(run_broken(faults), "residual_growth", "blk.1.ffn_residual"));
}

TEST(ForwardFinite, AnEmptyTensorIsRefuted) {
  SessionFaults faults;
  faults.alter_trace = [](const BrokenCall&, TraceSite site, Matrix<double>* values) {
    if (site == TraceSite{TracePoint::kQ, 0}) *values = Matrix<double>(0, values->columns());
  };
  const Verdict verdict = run_broken(faults);
  EXPECT_EQ(verdict.kind, VerdictKind::kRefuted);
  EXPECT_NE(verdict.reason.find("blk.0.q is [0, 256]"), std::string::npos) << verdict.reason;
}

}  // namespace
}  // namespace refute
