#include "falsifiers/forward_decode_equals_prefill.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/falsifiers/broken_session.h"
#include "tests/falsifiers/pack_fixture.h"

namespace refute {
namespace {

TEST(ForwardDecodeEqualsPrefill, HoldsOnTheOracleOfEveryPack) {
  for (const char* name : kPackNames) {
    const LoadedPack loaded(name);
    EXPECT_TRUE(held(run(forward_decode_equals_prefill_info(), *exact_oracle(), loaded))) << name;
  }
}

TEST(ForwardDecodeEqualsPrefill, HoldsOnTheCpuBackendOfEveryPack) {
  for (const char* name : kPackNames) {
    const LoadedPack loaded(name);
    EXPECT_TRUE(held(run(forward_decode_equals_prefill_info(), *cpu_backend(), loaded))) << name;
  }
}

TEST(ForwardDecodeEqualsPrefill, OneLastPlaceInDecodeIsRefutedAtItsTracePoint) {
  const LoadedPack loaded("nano");
  SessionFaults faults;
  faults.alter_trace = [](const BrokenCall& call, TraceSite site, Matrix<double>* values) {
    if (call.tokens.size() != 1 || call.position != 8) return;
    if (site != TraceSite{TracePoint::kAttnHeads, 1}) return;
    (*values)(0, 3) =
        static_cast<double>(std::nextafter(static_cast<float>((*values)(0, 3)), 9.0f));
  };
  const auto cpu = cpu_backend();
  const FaultySessionBackend broken(*cpu, faults);
  EXPECT_TRUE(refuted_by(run(forward_decode_equals_prefill_info(), broken, loaded),
                         "differing_elements", "prompt of 9 decoded, blk.1.attn_heads"));
}

TEST(ForwardDecodeEqualsPrefill, AStaleCacheRowIsRefuted) {  // F64
  const LoadedPack loaded("nano");
  SessionFaults faults;
  faults.alter_logits = [](const BrokenCall& call, Matrix<double>* logits) {
    if (call.position >= 8 && call.tokens.size() == 1) (*logits)(0, 0) *= 1.001;
  };
  const auto oracle = exact_oracle();
  const FaultySessionBackend broken(*oracle, faults);
  EXPECT_TRUE(refuted_by(run(forward_decode_equals_prefill_info(), broken, loaded),
                         "differing_elements", "returned logits"));
}

}  // namespace
}  // namespace refute
