#include "falsifiers/trace_points_complete_and_ordered.h"

#include <gtest/gtest.h>

#include "tests/falsifiers/broken_session.h"
#include "tests/falsifiers/pack_fixture.h"

namespace refute {
namespace {

TEST(TracePointsCompleteAndOrdered, HoldsOnTheOracleOfEveryPack) {
  for (const char* name : kPackNames) {
    const LoadedPack loaded(name);
    EXPECT_TRUE(held(run(trace_points_complete_and_ordered_info(), *exact_oracle(), loaded)))
        << name;
  }
}

TEST(TracePointsCompleteAndOrdered, HoldsOnTheCpuBackendOfEveryPack) {
  for (const char* name : kPackNames) {
    const LoadedPack loaded(name);
    EXPECT_TRUE(held(run(trace_points_complete_and_ordered_info(), *cpu_backend(), loaded)))
        << name;
  }
}

Verdict run_broken(const SessionFaults& faults) {
  const LoadedPack loaded("nano");
  const auto cpu = cpu_backend();
  const FaultySessionBackend broken(*cpu, faults);
  return run(trace_points_complete_and_ordered_info(), broken, loaded);
}

TEST(TracePointsCompleteAndOrdered, AMissingExpertPointIsRefuted) {
  SessionFaults faults;
  faults.drops = [](TraceSite site) { return site == TraceSite{TracePoint::kExpertUp, 1}; };
  EXPECT_TRUE(refuted_by(run_broken(faults), "wrong_records", "expected blk.1.expert_up"));
}

TEST(TracePointsCompleteAndOrdered, ADoubledPointIsRefuted) {
  SessionFaults faults;
  faults.doubles = [](TraceSite site) { return site == TraceSite{TracePoint::kLogits, 0}; };
  EXPECT_TRUE(refuted_by(run_broken(faults), "wrong_records", "expected nothing, found logits"));
}

TEST(TracePointsCompleteAndOrdered, AWrongShapeIsRefuted) {
  SessionFaults faults;
  faults.alter_trace = [](const BrokenCall&, TraceSite site, Matrix<double>* values) {
    if (site != TraceSite{TracePoint::kRouterWeight, 0}) return;
    *values = Matrix<double>(values->rows(), values->columns() + 1);
  };
  EXPECT_TRUE(refuted_by(run_broken(faults), "wrong_records", "blk.0.router_weight"));
}

}  // namespace
}  // namespace refute
