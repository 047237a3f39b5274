#include "falsifiers/forward_matches_textbook.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/falsifiers/synthetic_expectations.h"

namespace refute {
namespace {

TEST(ForwardMatchesTextbook, HoldsOnTheOracleOfEveryPack) {
  for (const char* name : kPackNames) {
    const Model model = load_model(pack_path(name, ".gguf"));
    const Verdict verdict = run_falsifier(forward_matches_textbook_info(), *exact_oracle(), &model);
    EXPECT_TRUE(held(verdict)) << name;
  }
}

// Int8 activations are an error to it, which is what makes it a check of the exact oracle.
TEST(ForwardMatchesTextbook, RefutesTheEmulatedOracle) {
  const Model model = load_model(pack_path("nano", ".gguf"));
  const auto emulated = make_oracle_backend(ActivationScheme::kEmulatedInt8);
  expect_refuted(forward_matches_textbook_info(), *emulated, "error", &model);
}

class EveryStage : public testing::TestWithParam<TracePoint> {};

TEST_P(EveryStage, OffByAMillionthIsRefuted) {
  const Model model = load_model(pack_path("nano", ".gguf"));
  SessionFaults faults;
  faults.alter_trace = [](const BrokenCall&, TraceSite site, Matrix<double>* values) {
    if (site.point == GetParam()) {
      for (double& value : values->flat()) value *= 1.000001;
    }
  };
  expect_oracle_faults_refuted(forward_matches_textbook_info(), faults, "error", &model);
}

INSTANTIATE_TEST_SUITE_P(
    ForwardMatchesTextbook, EveryStage,
    testing::Values(TracePoint::kEmbedding, TracePoint::kAttnNorm, TracePoint::kQ, TracePoint::kK,
                    TracePoint::kV, TracePoint::kQNorm, TracePoint::kKNorm, TracePoint::kQRope,
                    TracePoint::kKRope, TracePoint::kAttnHeads, TracePoint::kAttnOut,
                    TracePoint::kAttnResidual, TracePoint::kFfnNorm, TracePoint::kRouterLogits,
                    TracePoint::kRouterWeight, TracePoint::kExpertGate, TracePoint::kExpertUp,
                    TracePoint::kExpertSwiglu, TracePoint::kExpertOut, TracePoint::kMoeOut,
                    TracePoint::kFfnResidual, TracePoint::kOutputNorm, TracePoint::kLogits),
    [](const testing::TestParamInfo<TracePoint>& stage) {
      return std::string(trace_point_name(stage.param));
    });

TEST(ForwardMatchesTextbook, RefutesExchangedExperts) {  // F31
  const Model model = load_model(pack_path("nano", ".gguf"));
  SessionFaults faults;
  faults.alter_trace = [](const BrokenCall&, TraceSite site, Matrix<double>* values) {
    if (site.point == TracePoint::kRouterIndex) std::swap((*values)(0, 0), (*values)(0, 1));
  };
  expect_oracle_faults_refuted(forward_matches_textbook_info(), faults, "wrong_ids", &model);
}

TEST(ForwardMatchesTextbook, RefutesAModelWithAnotherRopeTheta) {  // F52
  const Model model = load_model(pack_path("nano", ".gguf"));
  const ChangedModel wrong(model, wrong_rope_theta());
  SessionFaults faults;
  faults.runs = &wrong.model();
  const auto oracle = exact_oracle();
  const Verdict verdict =
      run_falsifier(forward_matches_textbook_info(), FaultySessionBackend(*oracle, faults), &model);
  EXPECT_TRUE(refuted_by(verdict, "error", "q_rope"));
}

}  // namespace
}  // namespace refute
