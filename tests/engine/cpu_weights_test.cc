// The CPU's packed copy of a model changes no bit, whatever the instruction set.
#include "engine/cpu_weights.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "engine/backend.h"
#include "engine/forward.h"
#include "engine/model.h"
#include "kernels/cpu/tiles.h"

namespace refute {
namespace {

Model trained_model(ScaleCheck check = ScaleCheck::kWhenLoaded) {
  return Model::load(std::string(REFUTE_SOURCE_DIR) + "/contracts/subjects/kjv-moe-7m.gguf", 1,
                     check)
      .value();
}

std::vector<std::int32_t> prompt() {
  std::vector<std::int32_t> tokens;
  for (const char letter : std::string("In the beginning God created")) tokens.push_back(letter);
  return tokens;
}

Matrix<float> logits(const cpu::Context& context, const Model& model,
                     const cpu::PackedWeights& packed) {
  const auto tokens = prompt();
  const RopeTable rope_table(model.config().rope_theta, model.config().head_dim, tokens.size());
  KvCache<std::uint16_t> cache(model.config(), tokens.size());
  ForwardOptions options;
  options.logit_rows = LogitRows::kAll;
  return cpu::forward_qwen3_moe(context, model, packed, rope_table, tokens, cache, options).value();
}

TEST(PackedWeights, GiveTheLogitsOfStoredRowsOnEveryInstructionSet) {
  const Model model = trained_model();
  const Matrix<float> expected =
      logits(cpu::Context::create(1, cpu::Isa::kPortable).value(), model, cpu::PackedWeights());
  for (const cpu::Isa isa : cpu::supported_isas()) {
    for (const std::size_t threads : {1, 3}) {
      const cpu::Context context = cpu::Context::create(threads, isa).value();
      const auto packed = cpu::PackedWeights::create(context, model).value();
      EXPECT_EQ(packed.bytes() > 0, cpu::uses_tiles(context));
      const Matrix<float> found = logits(context, model, packed);
      ASSERT_EQ(found.size(), expected.size());
      EXPECT_EQ(std::memcmp(found.data(), expected.data(), found.size() * sizeof(float)), 0)
          << cpu::isa_name(isa) << ", " << threads << " threads";
    }
  }
}

TEST(PackedWeights, AreTheSameWhereScalesAreLookedAtOnTheWay) {
  const Model model = trained_model();
  const Model left = trained_model(ScaleCheck::kWhenOpened);
  for (const cpu::Isa isa : cpu::supported_isas()) {
    const cpu::Context context = cpu::Context::create(2, isa).value();
    const auto packed = cpu::PackedWeights::create(context, model).value();
    const auto on_the_way = cpu::PackedWeights::create(context, left).value();
    EXPECT_EQ(on_the_way.bytes(), packed.bytes());
    const Matrix<float> expected = logits(context, model, packed);
    const Matrix<float> found = logits(context, left, on_the_way);
    EXPECT_EQ(std::memcmp(found.data(), expected.data(), found.size() * sizeof(float)), 0);
  }
}

TEST(PackedWeights, SessionsOfAForcedInstructionSetSayWhichOneRan) {
  const Model model = trained_model();
  std::vector<Matrix<double>> all;
  for (const cpu::Isa isa : cpu::supported_isas()) {
    const auto backend = make_cpu_backend(cpu::Context::create(2, isa).value());
    EXPECT_NE(backend->description().find(cpu::isa_name(isa)), std::string::npos);
    const auto session = backend->open_session(model, prompt().size()).value();
    all.push_back(session->forward(prompt(), {}).value());
    EXPECT_EQ(std::memcmp(all.back().data(), all.front().data(), all[0].size() * sizeof(double)),
              0);
  }
}

TEST(PackedWeights, HaveTilesForRowGroupsOfWhatWasPackedAlone) {
  const Model model = trained_model();
  const cpu::Context context = cpu::Context::create(1).value();
  if (!cpu::uses_tiles(context)) return;  // Rows are all there is.
  const auto packed = cpu::PackedWeights::create(context, model).value();
  const LayerWeights& layer = model.layers()[0];
  ASSERT_TRUE(cpu::has_tiles(layer.q_proj.type, layer.q_proj.columns));
  const cpu::PlacedWeight whole = packed.place(layer.q_proj);
  ASSERT_NE(whole.tiles, nullptr);
  EXPECT_EQ(whole.stored.data, layer.q_proj.data);
  const auto part = [&](std::size_t first_row, std::size_t rows) {
    WeightView view = layer.q_proj;
    view.data = layer.q_proj.row(first_row);
    view.rows = rows;
    return packed.place(view).tiles;
  };
  const std::size_t group = cpu::group_bytes(layer.q_proj.type, layer.q_proj.columns);
  EXPECT_EQ(part(16, 32), whole.tiles + group);
  EXPECT_EQ(part(0, 15), nullptr);
  EXPECT_EQ(part(1, 16), nullptr);
  EXPECT_EQ(part(layer.q_proj.rows - 16, 16), whole.tiles + (layer.q_proj.rows / 16 - 1) * group);
  const std::vector<std::byte> elsewhere(layer.q_proj.data,
                                         layer.q_proj.data + layer.q_proj.bytes());
  WeightView copy = layer.q_proj;
  copy.data = elsewhere.data();
  EXPECT_EQ(packed.place(copy).tiles, nullptr);
  EXPECT_EQ(cpu::PackedWeights().place(layer.q_proj).tiles, nullptr);
}

}  // namespace
}  // namespace refute
