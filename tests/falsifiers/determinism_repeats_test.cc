#include "falsifiers/determinism_repeats.h"

#include <gtest/gtest.h>

#include "tests/falsifiers/broken_session.h"
#include "tests/falsifiers/pack_fixture.h"

namespace refute {
namespace {

TEST(DeterminismRepeats, HoldsOnTheOracleOfEveryPack) {
  for (const char* name : kPackNames) {
    const LoadedPack loaded(name);
    EXPECT_TRUE(held(run(determinism_repeats_info(), *exact_oracle(), loaded))) << name;
  }
}

TEST(DeterminismRepeats, HoldsOnTheCpuBackendOfEveryPack) {
  for (const char* name : kPackNames) {
    const LoadedPack loaded(name);
    EXPECT_TRUE(held(run(determinism_repeats_info(), *cpu_backend(), loaded))) << name;
  }
}

TEST(DeterminismRepeats, OneElementInOneRepeatIsRefuted) {  // F74, F82
  const LoadedPack loaded("nano");
  SessionFaults faults;
  faults.alter_trace = [](const BrokenCall& call, TraceSite site, Matrix<double>* values) {
    if (call.number == 13 && site == TraceSite{TracePoint::kMoeOut, 0}) (*values)(2, 5) += 0.05;
  };
  const auto cpu = cpu_backend();
  const FaultySessionBackend broken(*cpu, faults);
  EXPECT_TRUE(refuted_by(run(determinism_repeats_info(), broken, loaded), "differing_elements",
                         "repeat 13, blk.0.moe_out"));
}

}  // namespace
}  // namespace refute
