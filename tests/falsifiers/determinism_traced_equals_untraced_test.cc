#include "falsifiers/determinism_traced_equals_untraced.h"

#include <gtest/gtest.h>

#include "tests/falsifiers/broken_session.h"
#include "tests/falsifiers/pack_fixture.h"

namespace refute {
namespace {

TEST(DeterminismTracedEqualsUntraced, HoldsOnTheOracleOfEveryPack) {
  for (const char* name : kPackNames) {
    const LoadedPack loaded(name);
    EXPECT_TRUE(held(run(determinism_traced_equals_untraced_info(), *exact_oracle(), loaded)))
        << name;
  }
}

TEST(DeterminismTracedEqualsUntraced, HoldsOnTheCpuBackendOfEveryPack) {
  for (const char* name : kPackNames) {
    const LoadedPack loaded(name);
    EXPECT_TRUE(held(run(determinism_traced_equals_untraced_info(), *cpu_backend(), loaded)))
        << name;
  }
}

TEST(DeterminismTracedEqualsUntraced, ASecondBodyForTracingIsRefuted) {
  const LoadedPack loaded("nano");
  SessionFaults faults;
  faults.alter_logits = [](const BrokenCall& call, Matrix<double>* logits) {
    if (!call.traced && call.tokens.size() > 1) (*logits)(0, 0) += 1e-6;
  };
  const auto cpu = cpu_backend();
  const FaultySessionBackend broken(*cpu, faults);
  EXPECT_TRUE(refuted_by(run(determinism_traced_equals_untraced_info(), broken, loaded),
                         "differing_elements", "prefill logits"));
}

TEST(DeterminismTracedEqualsUntraced, ARecordThatIsNotWhatIsReturnedIsRefuted) {
  const LoadedPack loaded("nano");
  SessionFaults faults;
  faults.alter_trace = [](const BrokenCall&, TraceSite site, Matrix<double>* values) {
    if (site.point == TracePoint::kLogits) (*values)(0, 0) += 1.0;
  };
  const auto cpu = cpu_backend();
  const FaultySessionBackend broken(*cpu, faults);
  EXPECT_TRUE(refuted_by(run(determinism_traced_equals_untraced_info(), broken, loaded),
                         "differing_elements", "logits as recorded"));
}

}  // namespace
}  // namespace refute
