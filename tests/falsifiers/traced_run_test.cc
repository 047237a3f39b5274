#include "falsifiers/traced_run.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "tests/falsifiers/pack_fixture.h"

namespace refute {
namespace {

constexpr std::array<MetricInfo, 1> kMetrics = {
    {{"differing", "elements that differ", false, 0.5}}};

TEST(TracedRun, OrdersTheLayersBetweenEmbeddingAndOutputNorm) {
  Config config;
  config.num_hidden_layers = 2;
  const std::vector<TraceSite> order = forward_order(config);
  ASSERT_EQ(order.size(), 3u + 2u * 21u);
  EXPECT_EQ(order.front().name(), "embedding");
  EXPECT_EQ(order[1].name(), "blk.0.attn_norm");
  EXPECT_EQ(order[21].name(), "blk.0.ffn_residual");
  EXPECT_EQ(order[22].name(), "blk.1.attn_norm");
  EXPECT_EQ(order.back().name(), "logits");
}

TEST(TracedRun, RecordsEveryTracePointInItsDocumentedShapeWhateverTheChunks) {
  const LoadedPack loaded("gqa");
  for (const std::size_t chunk : {0, 1, 5}) {
    Judge judge(kMetrics, {});
    const TracedRun run = run_traced(*cpu_backend(), loaded.model, loaded.pack.tokens(),
                                     {.chunk = chunk, .forced_routes = nullptr})
                              .value();
    EXPECT_EQ(run.logits.rows(), loaded.pack.tokens().size());
    EXPECT_TRUE(require_complete(loaded.model.config(), run, &judge)) << "chunk " << chunk;
  }
}

TEST(TracedRun, ForcedRoutesAreTaken) {
  const LoadedPack loaded("nano");
  const Config& config = loaded.model.config();
  const auto backend = cpu_backend();
  ForcedRoutes routes = routes_of(config, loaded.pack.tensors());
  ASSERT_EQ(routes.ids.size(), config.num_hidden_layers);
  for (std::int32_t& id : routes.ids[1].row(3)) id = 3 - id;
  const TracedRun run = run_traced(*backend, loaded.model, loaded.pack.tokens(),
                                   {.chunk = 0, .forced_routes = &routes})
                            .value();
  const ForcedRoutes taken = routes_of(config, run.trace);
  for (std::size_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    EXPECT_TRUE(std::ranges::equal(taken.ids[layer].flat(), routes.ids[layer].flat()));
  }
}

TEST(TracedRun, CountsDifferingElementsOfTheFirstTokensOnly) {
  const LoadedPack loaded("nano");
  const Config& config = loaded.model.config();
  const TracedRun run = run_traced(*cpu_backend(), loaded.model, loaded.pack.tokens()).value();
  TracedRun changed = run;
  changed.trace.at({TracePoint::kExpertOut, 1}).values(5 * 2, 0) += 1.0;  // Token 5, rank 0.
  Judge before(kMetrics, {});
  EXPECT_TRUE(measure_differing_elements(config, run, changed, 5, "differing", "x", &before));
  Judge with(kMetrics, {});
  EXPECT_FALSE(measure_differing_elements(config, run, changed, 6, "differing", "x", &with));
  EXPECT_TRUE(refuted_by(with.verdict(), "differing", "x, blk.1.expert_out"));
}

TEST(TracedRun, SubjectErrorsRefuteUnlessTheMachineLacksMemory) {
  Judge rejects(kMetrics, {});
  judge_subject_error({ErrorKind::kInvalidShape, "x", "1", "2"}, "here", &rejects);
  EXPECT_EQ(rejects.verdict().kind, VerdictKind::kRefuted);
  Judge memory(kMetrics, {});
  judge_subject_error({ErrorKind::kOutOfMemory, "x", "1", "2"}, "here", &memory);
  EXPECT_EQ(memory.verdict().kind, VerdictKind::kError);
  Judge reference(kMetrics, {});
  judge_reference_error({ErrorKind::kNonFinite, "x", "1", "2"}, "here", &reference);
  EXPECT_EQ(reference.verdict().kind, VerdictKind::kError);
}

TEST(TracedRun, RandomTokensStayInTheVocabularyAndTheContext) {
  Config config;
  config.vocab_size = 7;
  config.max_position_embeddings = 50;
  const auto tokens = random_tokens(config, 3, 80);
  EXPECT_EQ(tokens.size(), 50u);
  EXPECT_TRUE(std::ranges::all_of(tokens, [](std::int32_t t) { return t >= 0 && t < 7; }));
  EXPECT_EQ(tokens, random_tokens(config, 3, 80));
  EXPECT_NE(tokens, random_tokens(config, 4, 80));
}

}  // namespace
}  // namespace refute
