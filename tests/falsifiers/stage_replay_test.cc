#include "falsifiers/stage_replay.h"

#include <gtest/gtest.h>

#include "falsifiers/metrics.h"
#include "falsifiers/traced_run.h"
#include "tests/falsifiers/pack_fixture.h"

namespace refute {
namespace {

std::size_t differing(const Matrix<double>& a, const Matrix<double>& b) {
  const auto count = count_differing_bits(a.view(), b.view());
  return count ? *count : a.size();
}

TEST(StageReplay, GivesEveryTracePointOfTheSameBackendBitForBit) {
  for (const char* name : {"nano", "gqa", "mixed"}) {
    const LoadedPack loaded(name);
    for (const auto& backend : {exact_oracle(), cpu_backend()}) {
      const TracedRun run = run_traced(*backend, loaded.model, loaded.pack.tokens()).value();
      for (const TraceSite site : forward_order(loaded.model.config())) {
        const auto replayed =
            replay_stage(*backend, loaded.model, site, {loaded.pack.tokens(), run.trace});
        ASSERT_TRUE(replayed) << replayed.error().message();
        EXPECT_EQ(differing(*replayed, run.trace.at(site).values), 0u)
            << name << " " << site.name() << " " << backend->description();
      }
    }
  }
}

TEST(StageReplay, ComposesStagesFromTheTokensAlone) {
  const LoadedPack loaded("nano");
  const auto backend = cpu_backend();
  const TracedRun run = run_traced(*backend, loaded.model, loaded.pack.tokens()).value();
  const TraceTensors nothing;
  for (const TraceSite site : {TraceSite{TracePoint::kEmbedding, 0},
                               {TracePoint::kAttnOut, 0},
                               {TracePoint::kMoeOut, 0},
                               {TracePoint::kRouterIndex, 0}}) {
    const auto replayed =
        replay_stage(*backend, loaded.model, site, {loaded.pack.tokens(), nothing});
    ASSERT_TRUE(replayed) << replayed.error().message();
    EXPECT_EQ(differing(*replayed, run.trace.at(site).values), 0u) << site.name();
  }
}

TEST(StageReplay, TakesTheRecordedRoutes) {
  const LoadedPack loaded("nano");
  const auto backend = exact_oracle();
  const TracedRun run = run_traced(*backend, loaded.model, loaded.pack.tokens()).value();
  const TraceSite ffn_norm{TracePoint::kFfnNorm, 1};
  const TraceSite index{TracePoint::kRouterIndex, 1};
  TraceTensors inputs{{ffn_norm, run.trace.at(ffn_norm)}, {index, run.trace.at(index)}};
  for (double& id : inputs.at(index).values.row(2)) id = 3.0 - id;
  const auto replayed = replay_stage(*backend, loaded.model, {TracePoint::kMoeOut, 1},
                                     {loaded.pack.tokens(), inputs});
  ASSERT_TRUE(replayed) << replayed.error().message();
  const Matrix<double>& original = run.trace.at({TracePoint::kMoeOut, 1}).values;
  for (std::size_t t = 0; t < original.rows(); ++t) {
    const bool same = std::ranges::equal(replayed->row(t), original.row(t));
    EXPECT_EQ(same, t != 2) << "token " << t;
  }
}

TEST(StageReplay, RefusesARunThatStartsLater) {
  const LoadedPack loaded("nano");
  const auto backend = exact_oracle();
  TracedRun run = run_traced(*backend, loaded.model, loaded.pack.tokens()).value();
  run.trace.at({TracePoint::kQ, 0}).first_position = 3;
  const auto replayed = replay_stage(*backend, loaded.model, {TracePoint::kQNorm, 0},
                                     {loaded.pack.tokens(), run.trace});
  ASSERT_FALSE(replayed);
  EXPECT_EQ(replayed.error().kind, ErrorKind::kInvalidShape);
}

TEST(StageReplay, KnowsTheWeightsOfEveryProduct) {
  const LoadedPack loaded("mixed");
  const auto type = [&](TracePoint point) { return matmul_weight_type(loaded.model, {point, 1}); };
  ASSERT_NE(type(TracePoint::kV), nullptr);
  EXPECT_EQ(type(TracePoint::kV)->type, TensorType::kF16);
  EXPECT_EQ(type(TracePoint::kQ)->type, TensorType::kQ8_0);
  EXPECT_EQ(type(TracePoint::kExpertGate)->type, TensorType::kQ5_K);
  EXPECT_EQ(type(TracePoint::kLogits)->type, TensorType::kF32);
  EXPECT_EQ(type(TracePoint::kAttnNorm), nullptr);
}

}  // namespace
}  // namespace refute
