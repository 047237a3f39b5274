#include "falsifiers/forward_local_parity.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "tests/falsifiers/broken_session.h"
#include "tests/falsifiers/pack_fixture.h"

namespace refute {
namespace {

TEST(ForwardLocalParity, HoldsOnTheCpuBackendOfEveryPack) {
  for (const char* name : kPackNames) {
    const LoadedPack loaded(name);
    EXPECT_TRUE(held(run(forward_local_parity_info(), *cpu_backend(), loaded))) << name;
  }
}

Verdict run_broken(const LoadedPack& loaded, const SessionFaults& faults) {
  const auto cpu = cpu_backend();
  const FaultySessionBackend broken(*cpu, faults);
  return run(forward_local_parity_info(), broken, loaded);
}

TEST(ForwardLocalParity, WrongRopeThetaIsRefutedAtTheFirstTurn) {  // F52
  const LoadedPack loaded("nano");
  const ChangedModel changed(loaded.model, wrong_rope_theta());
  SessionFaults faults;
  faults.runs = &changed.model();
  EXPECT_TRUE(refuted_by(run_broken(loaded, faults), "relative_l2", "blk.0.q_rope"));
}

TEST(ForwardLocalParity, WeightsScaledByFivePercentAreRefuted) {  // F37
  const LoadedPack loaded("tiny");
  SessionFaults faults;
  faults.alter_trace = [](const BrokenCall&, TraceSite site, Matrix<double>* values) {
    if (site != TraceSite{TracePoint::kRouterWeight, 1}) return;
    for (double& weight : values->flat()) weight *= 1.05;
  };
  EXPECT_TRUE(refuted_by(run_broken(loaded, faults), "scale_error", "blk.1.router_weight"));
}

TEST(ForwardLocalParity, OneElementOffByAThousandthIsRefuted) {  // F74
  const LoadedPack loaded("gqa");
  SessionFaults faults;
  faults.alter_trace = [](const BrokenCall&, TraceSite site, Matrix<double>* values) {
    if (site == TraceSite{TracePoint::kExpertOut, 1}) (*values)(5, 17) += 1e-3;
  };
  EXPECT_TRUE(refuted_by(run_broken(loaded, faults), "linf_over_rms", "blk.1.expert_out"));
}

TEST(ForwardLocalParity, ExchangedExpertsAreRefuted) {  // F32
  const LoadedPack loaded("mixed");
  SessionFaults faults;
  faults.alter_trace = [](const BrokenCall&, TraceSite site, Matrix<double>* values) {
    if (site == TraceSite{TracePoint::kRouterIndex, 1}) std::swap((*values)(2, 0), (*values)(2, 1));
  };
  EXPECT_TRUE(refuted_by(run_broken(loaded, faults), "wrong_experts", "blk.1.router_index"));
}

TEST(ForwardLocalParity, OneBlockScaleDoubledIsRefutedAtTheExpert) {  // F14
  const LoadedPack loaded("nano");
  const ExpertStack& stack = loaded.model.layers()[0].gate_proj;
  const auto expert =
      static_cast<std::size_t>(loaded.pack.find({TracePoint::kRouterIndex, 0})->values(0, 0));
  // The second byte of the float16 d of the expert's first block holds the exponent from bit 2 on.
  const std::size_t offset =
      file_offset(loaded.model, stack.data.data()) + expert * stack.bytes_per_expert() + 1;
  const ChangedModel changed(loaded.model,
                             [&](std::vector<std::byte>& bytes) { bytes[offset] ^= std::byte{4}; });
  SessionFaults faults;
  faults.runs = &changed.model();
  EXPECT_TRUE(refuted_by(run_broken(loaded, faults), "relative_l2", "blk.0.expert_gate"));
}

TEST(ForwardLocalParity, HoldsWithoutAPack) {
  const LoadedPack loaded("nano");
  const auto cpu = cpu_backend();
  EXPECT_TRUE(held(forward_local_parity_info().falsify({*cpu, &loaded.model, nullptr}, {})));
}

}  // namespace
}  // namespace refute
