#include "falsifiers/oracle_pack_trace_points.h"

#include <gtest/gtest.h>

#include <array>
#include <string>
#include <utility>
#include <vector>

#include "falsifiers/seeded_random.h"
#include "tests/falsifiers/broken_session.h"
#include "tests/falsifiers/pack_fixture.h"

namespace refute {
namespace {

TEST(OraclePackTracePoints, HoldsOnTheOracleOfEveryPack) {
  for (const char* name : kPackNames) {
    const LoadedPack loaded(name);
    EXPECT_TRUE(held(run(oracle_pack_trace_points_info(), *exact_oracle(), loaded))) << name;
  }
}

// Flips one bit in the block of an expert that the pack's tokens use, and expects the first trace
// point that depends on it to be named.
void expect_flip_is_refuted(const LoadedPack& loaded, SeededRandom& random) {
  const std::size_t layer = random.below(loaded.model.layers().size());
  const LayerWeights& weights = loaded.model.layers()[layer];
  const std::array<const ExpertStack*, 3> stacks = {&weights.gate_proj, &weights.up_proj,
                                                    &weights.down_proj};
  const ExpertStack& stack = *stacks[random.below(stacks.size())];
  const auto used = loaded.pack.find({TracePoint::kRouterIndex, layer})->values.flat();
  const auto expert = static_cast<std::size_t>(used[random.below(used.size())]);
  const std::size_t byte =
      expert * stack.bytes_per_expert() + random.below(stack.bytes_per_expert());
  const auto bit = static_cast<int>(random.below(8));
  const std::size_t offset = file_offset(loaded.model, stack.data.data()) + byte;
  const ChangedModel changed(loaded.model, [&](std::vector<std::byte>& bytes) {
    bytes[offset] ^= static_cast<std::byte>(1 << bit);
  });
  const Verdict verdict = oracle_pack_trace_points_info().falsify(
      {*exact_oracle(), &changed.model(), &loaded.pack}, {});
  EXPECT_TRUE(refuted_by(verdict, "float32_ulps", "blk." + std::to_string(layer) + ".moe_out"))
      << "byte " << offset << " bit " << bit;
  EXPECT_NE(verdict.reason.find("float32_ulps"), std::string::npos) << verdict.reason;
}

TEST(OraclePackTracePoints, EveryFlippedBitOfAUsedExpertIsRefutedByLayerTracePointAndMetric) {
  SeededRandom random(1);
  for (const auto& [name, flips] :
       {std::pair{"nano", 40}, {"tiny", 10}, {"mixed", 10}, {"gqa", 4}, {"kjv-moe-7m", 4}}) {
    const LoadedPack loaded(name);
    for (int flip = 0; flip < flips; ++flip) expect_flip_is_refuted(loaded, random);
  }
}

TEST(OraclePackTracePoints, EpsilonOf1e5IsRefutedAtTheFirstNorm) {  // F45
  const LoadedPack loaded("nano");
  const ChangedModel changed(
      loaded.model, set_metadata_float("qwen3moe.attention.layer_norm_rms_epsilon", 1e-5f));
  const Verdict verdict = oracle_pack_trace_points_info().falsify(
      {*exact_oracle(), &changed.model(), &loaded.pack}, {});
  EXPECT_TRUE(refuted_by(verdict, "float32_ulps", "blk.0.attn_norm"));
}

TEST(OraclePackTracePoints, WrongRopeThetaIsRefutedAtTheQueries) {  // F52
  const LoadedPack loaded("nano");
  const ChangedModel changed(loaded.model, wrong_rope_theta());
  const Verdict verdict = oracle_pack_trace_points_info().falsify(
      {*exact_oracle(), &changed.model(), &loaded.pack}, {});
  EXPECT_TRUE(refuted_by(verdict, "relative_l2", "blk.0.q_rope"));
}

TEST(OraclePackTracePoints, ExchangedExpertsAreRefuted) {  // F32
  const LoadedPack loaded("nano");
  SessionFaults faults;
  faults.alter_trace = [](const BrokenCall&, TraceSite site, Matrix<double>* values) {
    if (site.point == TracePoint::kRouterIndex) std::swap((*values)(3, 0), (*values)(3, 1));
  };
  const auto oracle = exact_oracle();
  const FaultySessionBackend broken(*oracle, faults);
  EXPECT_TRUE(refuted_by(run(oracle_pack_trace_points_info(), broken, loaded), "wrong_experts",
                         "blk.0.router_index"));
}

TEST(OraclePackTracePoints, AMissingTracePointIsRefuted) {
  const LoadedPack loaded("nano");
  SessionFaults faults;
  faults.drops = [](TraceSite site) { return site == TraceSite{TracePoint::kMoeOut, 1}; };
  const auto oracle = exact_oracle();
  const FaultySessionBackend broken(*oracle, faults);
  const Verdict verdict = run(oracle_pack_trace_points_info(), broken, loaded);
  EXPECT_EQ(verdict.kind, VerdictKind::kRefuted);
  EXPECT_NE(verdict.reason.find("blk.1.moe_out"), std::string::npos) << verdict.reason;
}

}  // namespace
}  // namespace refute
