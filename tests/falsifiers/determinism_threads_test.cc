#include "falsifiers/determinism_threads.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "tests/falsifiers/broken_session.h"
#include "tests/falsifiers/pack_fixture.h"

namespace refute {
namespace {

TEST(DeterminismThreads, HoldsOnTheCpuBackendOfEveryPack) {
  for (const char* name : kPackNames) {
    const LoadedPack loaded(name);
    EXPECT_TRUE(held(run(determinism_threads_info(), *cpu_backend(), loaded))) << name;
  }
}

TEST(DeterminismThreads, ASubjectThatRoundsDifferentlyIsRefuted) {
  const LoadedPack loaded("nano");
  SessionFaults faults;
  faults.alter_trace = [](const BrokenCall&, TraceSite site, Matrix<double>* values) {
    if (site != TraceSite{TracePoint::kExpertUp, 1}) return;
    (*values)(3, 3) =
        static_cast<double>(std::nextafter(static_cast<float>((*values)(3, 3)), 9.0f));
  };
  const auto cpu = cpu_backend();
  const FaultySessionBackend broken(*cpu, faults);
  EXPECT_TRUE(refuted_by(run(determinism_threads_info(), broken, loaded), "differing_elements",
                         "cpu (portable, 1 thread), blk.1.expert_up"));
}

TEST(DeterminismThreads, NamesEveryInstructionSetThatItTried) {
  const LoadedPack loaded("nano");
  const Verdict verdict = run(determinism_threads_info(), *cpu_backend(), loaded);
  ASSERT_EQ(verdict.notes.size(), 1u);
  for (const cpu::Isa isa : cpu::supported_isas()) {
    EXPECT_NE(verdict.notes[0].find(cpu::isa_name(isa)), std::string::npos) << verdict.notes[0];
  }
}

}  // namespace
}  // namespace refute
