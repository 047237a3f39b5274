#include "falsifiers/nll_oracle_matches_expectation.h"

#include <gtest/gtest.h>

#include "tests/falsifiers/broken_session.h"
#include "tests/falsifiers/pack_fixture.h"

namespace refute {
namespace {

TEST(NllOracleMatchesExpectation, HoldsOnTheOracle) {
  const LoadedPack loaded("kjv-moe-7m");
  EXPECT_TRUE(held(run(nll_oracle_matches_expectation_info(), *exact_oracle(), loaded)));
}

TEST(NllOracleMatchesExpectation, EpsilonOf1e3IsRefuted) {  // F46
  const LoadedPack loaded("kjv-moe-7m");
  const ChangedModel changed(
      loaded.model, set_metadata_float("qwen3moe.attention.layer_norm_rms_epsilon", 1e-3f));
  SessionFaults faults;
  faults.runs = &changed.model();
  const auto oracle = exact_oracle();
  const FaultySessionBackend broken(*oracle, faults);
  EXPECT_TRUE(refuted_by(run(nll_oracle_matches_expectation_info(), broken, loaded), "nll_error",
                         "4 windows"));
}

TEST(NllOracleMatchesExpectation, APackWithoutWindowsIsNotRun) {
  const LoadedPack loaded("nano");
  EXPECT_EQ(run(nll_oracle_matches_expectation_info(), *exact_oracle(), loaded).kind,
            VerdictKind::kNotRun);
}

}  // namespace
}  // namespace refute
