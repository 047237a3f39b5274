#include "engine/generate.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "engine/gguf.h"
#include "engine/model.h"

namespace refute {
namespace {

std::string subject_path(const std::string& file) {
  return std::string(REFUTE_SOURCE_DIR) + "/contracts/subjects/" + file;
}

TEST(Generate, TheOracleContinuesTheTrainedModelAsExpected) {
  auto model = Model::load(subject_path("kjv-moe-7m.gguf"));
  ASSERT_TRUE(model) << model.error().message();
  auto expected = GgufFile::open(subject_path("kjv-moe-7m.expected.gguf"));
  ASSERT_TRUE(expected);
  const GgufTensor* tensor = expected->find_tensor("greedy_tokens");
  ASSERT_NE(tensor, nullptr);
  std::vector<std::int32_t> tokens(tensor->num_elements());
  std::memcpy(tokens.data(), tensor->data.data(), tensor->data.size());
  const auto prompt_length = expected->required_unsigned("oracle.greedy_prompt_length");
  ASSERT_TRUE(prompt_length);

  const auto backend = make_oracle_backend(ActivationScheme::kExact);
  auto session = backend->open_session(*model, tokens.size());
  ASSERT_TRUE(session);
  auto sampler = Sampler::create({});
  ASSERT_TRUE(sampler);
  GenerateOptions options;
  options.max_new_tokens = tokens.size() - *prompt_length;
  GenerateStatistics statistics;
  auto generated =
      generate(**session, *sampler, std::span(tokens).first(*prompt_length), options, &statistics);
  ASSERT_TRUE(generated) << generated.error().message();
  EXPECT_EQ(*generated,
            std::vector<std::int32_t>(tokens.begin() + static_cast<std::ptrdiff_t>(*prompt_length),
                                      tokens.end()));
  EXPECT_EQ(statistics.decoded_tokens, generated->size() - 1);
}

TEST(Generate, EndsWhereItIsTold) {
  auto model = Model::load(subject_path("kjv-moe-7m.gguf"));
  ASSERT_TRUE(model);
  auto context = cpu::Context::create(1);
  ASSERT_TRUE(context);
  const auto backend = make_cpu_backend(std::move(*context));
  const std::vector<std::int32_t> prompt = {'A', 'n', 'd', ' '};
  const auto run = [&](std::size_t capacity, const GenerateOptions& options) {
    auto session = backend->open_session(*model, capacity);
    auto sampler = Sampler::create({});
    auto tokens = generate(**session, *sampler, prompt, options);
    EXPECT_TRUE(tokens);
    return *tokens;
  };
  GenerateOptions options;
  options.max_new_tokens = 12;
  const std::vector<std::int32_t> whole = run(64, options);
  ASSERT_EQ(whole.size(), 12u);

  // A full context ends the text with the token that its last position predicts.
  EXPECT_EQ(run(prompt.size() + 3, options).size(), 4u);

  options.stop_token = whole[5];
  const std::vector<std::int32_t> stopped = run(64, options);
  EXPECT_LE(stopped.size(), 5u);
  EXPECT_EQ(stopped,
            std::vector<std::int32_t>(whole.begin(),
                                      whole.begin() + static_cast<std::ptrdiff_t>(stopped.size())));
  EXPECT_EQ(whole[stopped.size()], whole[5]);

  options.stop_token.reset();
  std::size_t calls = 0;
  options.on_token = [&](std::int32_t) { return ++calls < 3; };
  EXPECT_EQ(run(64, options).size(), 3u);

  options.max_new_tokens = 0;
  EXPECT_TRUE(run(64, options).empty());
}

// Greedy tokens come without logits, and are those of their logits.
TEST(Generate, IsGreedyAsTheLogitsAre) {
  auto model = Model::load(subject_path("kjv-moe-7m.gguf"));
  ASSERT_TRUE(model);
  const auto backend = make_cpu_backend(std::move(*cpu::Context::create(2)));
  const std::vector<std::int32_t> prompt = {'T', 'h', 'e', 'n', ' '};
  GenerateOptions options;
  options.max_new_tokens = 20;
  const auto run = [&](const SamplingOptions& sampling) {
    auto session = backend->open_session(*model, 64);
    auto sampler = Sampler::create(sampling);
    auto tokens = generate(**session, *sampler, prompt, options);
    EXPECT_TRUE(tokens);
    return *tokens;
  };
  const auto greedy = run({});
  EXPECT_EQ(greedy.size(), 20u);
  EXPECT_EQ(greedy, run({.temperature = 1, .top_k = 1}));
}

}  // namespace
}  // namespace refute
