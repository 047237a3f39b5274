#include "falsifiers/forward_output_dimensions.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/falsifiers/broken_session.h"
#include "tests/falsifiers/pack_fixture.h"

namespace refute {
namespace {

TEST(ForwardOutputDimensions, HoldsOnTheOracleOfEveryPack) {
  for (const char* name : kPackNames) {
    const LoadedPack loaded(name);
    EXPECT_TRUE(held(run(forward_output_dimensions_info(), *exact_oracle(), loaded))) << name;
  }
}

TEST(ForwardOutputDimensions, HoldsOnTheCpuBackendOfEveryPack) {
  for (const char* name : kPackNames) {
    const LoadedPack loaded(name);
    EXPECT_TRUE(held(run(forward_output_dimensions_info(), *cpu_backend(), loaded))) << name;
  }
}

Verdict run_broken(const SessionFaults& faults) {
  const LoadedPack loaded("nano");
  const auto cpu = cpu_backend();
  const FaultySessionBackend broken(*cpu, faults);
  return run(forward_output_dimensions_info(), broken, loaded);
}

TEST(ForwardOutputDimensions, APaddedVocabularyIsRefuted) {
  SessionFaults faults;
  faults.alter_logits = [](const BrokenCall&, Matrix<double>* logits) {
    *logits = Matrix<double>(logits->rows(), logits->columns() + 1);
  };
  EXPECT_TRUE(refuted_by(run_broken(faults), "wrong_dimensions", "prompt of 1"));
}

TEST(ForwardOutputDimensions, TheLastRowOfAnotherTokenIsRefuted) {
  SessionFaults faults;
  faults.alter_logits = [](const BrokenCall& call, Matrix<double>* logits) {
    if (!call.traced && call.tokens.size() == 7) (*logits)(0, 0) += 1.0;
  };
  EXPECT_TRUE(refuted_by(run_broken(faults), "differing_elements", "prompt of 7, last row"));
}

TEST(ForwardOutputDimensions, RowsOfAPaddedTileAreRefuted) {
  SessionFaults faults;
  faults.alter_trace = [](const BrokenCall& call, TraceSite site, Matrix<double>* values) {
    if (call.tokens.size() != 33 || site != TraceSite{TracePoint::kAttnHeads, 1}) return;
    *values = Matrix<double>(40, values->columns());
  };
  const Verdict verdict = run_broken(faults);
  EXPECT_EQ(verdict.kind, VerdictKind::kRefuted);
  EXPECT_NE(verdict.reason.find("blk.1.attn_heads is [40, 256]"), std::string::npos)
      << verdict.reason;
}

}  // namespace
}  // namespace refute
