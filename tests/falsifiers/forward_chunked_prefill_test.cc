#include "falsifiers/forward_chunked_prefill.h"

#include <gtest/gtest.h>

#include "tests/falsifiers/broken_session.h"
#include "tests/falsifiers/pack_fixture.h"

namespace refute {
namespace {

TEST(ForwardChunkedPrefill, HoldsOnTheOracleOfEveryPack) {
  for (const char* name : kPackNames) {
    const LoadedPack loaded(name);
    EXPECT_TRUE(held(run(forward_chunked_prefill_info(), *exact_oracle(), loaded))) << name;
  }
}

TEST(ForwardChunkedPrefill, HoldsOnTheCpuBackendOfEveryPack) {
  for (const char* name : kPackNames) {
    const LoadedPack loaded(name);
    EXPECT_TRUE(held(run(forward_chunked_prefill_info(), *cpu_backend(), loaded))) << name;
  }
}

TEST(ForwardChunkedPrefill, AZeroTailOfATileIsRefuted) {  // F42
  const LoadedPack loaded("nano");
  SessionFaults faults;
  faults.alter_trace = [](const BrokenCall& call, TraceSite site, Matrix<double>* values) {
    if (call.tokens.size() != 9 || site != TraceSite{TracePoint::kV, 0}) return;
    for (double& value : values->row(8)) value = 0.0;
  };
  const auto cpu = cpu_backend();
  const FaultySessionBackend broken(*cpu, faults);
  EXPECT_TRUE(refuted_by(run(forward_chunked_prefill_info(), broken, loaded), "differing_elements",
                         "chunks of 9, blk.0.v"));
}

}  // namespace
}  // namespace refute
