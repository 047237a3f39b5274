// What Session does for every backend.
#include <gtest/gtest.h>

#include <vector>

#include "engine/backend.h"
#include "engine/generate.h"
#include "engine/model.h"

namespace refute {
namespace {

Model trained_model() {
  return Model::load(std::string(REFUTE_SOURCE_DIR) + "/contracts/subjects/kjv-moe-7m.gguf")
      .value();
}

// Gives the logits that a test lists, whatever the tokens.
class ListedLogits : public Session {
 public:
  explicit ListedLogits(std::vector<std::vector<double>> rows) : rows_(std::move(rows)) {}

  Result<Matrix<double>> forward(std::span<const std::int32_t> tokens,
                                 const ForwardOptions&) override {
    seen.insert(seen.end(), tokens.begin(), tokens.end());
    const std::vector<double>& row = rows_.at(length_++);
    return Matrix<double>(1, row.size(), row);
  }
  std::size_t length() const override { return length_; }
  std::size_t capacity() const override { return rows_.size(); }
  Result<void> rollback(std::size_t length) override {
    length_ = length;
    return {};
  }
  void poison_unused() override {}

  std::vector<std::int32_t> seen;

 private:
  std::vector<std::vector<double>> rows_;
  std::size_t length_ = 0;
};

TEST(DecodeGreedy, FeedsEachTokenBackAndBreaksTiesToTheLowestId) {
  ListedLogits session({{0, 1, 3, 2}, {5, 7, 7, 7}, {-1, -1, -1, -1}});
  const auto tokens = session.decode_greedy(3, 3);
  ASSERT_TRUE(tokens) << tokens.error().message();
  EXPECT_EQ(*tokens, (std::vector<std::int32_t>{2, 1, 0}));
  EXPECT_EQ(session.seen, (std::vector<std::int32_t>{3, 2, 1}));
}

TEST(DecodeGreedy, AppendsNothingWhereTheContextIsTooShort) {
  ListedLogits session({{0, 1}, {0, 1}});
  const auto tokens = session.decode_greedy(0, 3);
  ASSERT_FALSE(tokens);
  EXPECT_EQ(tokens.error().kind, ErrorKind::kContextFull);
  EXPECT_EQ(session.length(), 0u);
  const auto none = session.decode_greedy(0, 0);
  ASSERT_TRUE(none);
  EXPECT_TRUE(none->empty());
}

TEST(DecodeGreedy, IsTheGenerationLoopOnARealModel) {
  const Model model = trained_model();
  const auto backend = make_cpu_backend(cpu::Context::create(1).value());
  const std::vector<std::int32_t> prompt = {'A', 'n', 'd', ' '};
  const auto session = backend->open_session(model, 40).value();
  // Of one token to choose from the likeliest is drawn: a loop over logits.
  auto sampler = Sampler::create({.temperature = 1, .top_k = 1}).value();
  GenerateOptions options;
  options.max_new_tokens = 17;
  const auto expected = generate(*session, sampler, prompt, options).value();
  ASSERT_TRUE(session->rollback(prompt.size()));
  const auto found = session->decode_greedy(expected.front(), 16);
  ASSERT_TRUE(found) << found.error().message();
  EXPECT_EQ(*found, std::vector<std::int32_t>(expected.begin() + 1, expected.end()));
  EXPECT_EQ(session->length(), prompt.size() + 16);
}

TEST(Model, KeepsItsFirstLayersAlone) {
  Model model = trained_model();
  const std::size_t all = model.bytes_per_token();
  const auto backend = make_oracle_backend(ActivationScheme::kExact);
  const std::vector<std::int32_t> tokens = {'I', 'n'};
  const auto first_residual = [&] {
    TraceRecorder recorder;
    ForwardOptions options;
    options.trace = &recorder;
    EXPECT_TRUE(backend->open_session(model, 2).value()->forward(tokens, options));
    EXPECT_EQ(recorder.find({TracePoint::kFfnResidual, model.config().num_hidden_layers}), nullptr);
    const TraceTensor* last =
        recorder.find({TracePoint::kFfnResidual, model.config().num_hidden_layers - 1});
    EXPECT_NE(last, nullptr);
    const auto values = recorder.find({TracePoint::kFfnResidual, 0})->values.flat();
    return std::vector<double>(values.begin(), values.end());
  };
  const auto deep = first_residual();
  model.keep_layers(1);
  EXPECT_EQ(model.config().num_hidden_layers, 1u);
  EXPECT_LT(model.bytes_per_token(), all);
  EXPECT_EQ(first_residual(), deep);
}

}  // namespace
}  // namespace refute
