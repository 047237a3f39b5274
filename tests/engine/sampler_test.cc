#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace refute {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

Sampler created(const SamplingOptions& options) {
  Result<Sampler> sampler = Sampler::create(options);
  EXPECT_TRUE(sampler) << sampler.error().message();
  return *sampler;
}

std::vector<std::int32_t> drawn(const SamplingOptions& options, const std::vector<float>& logits,
                                std::size_t count) {
  Sampler sampler = created(options);
  std::vector<std::int32_t> ids(count);
  for (std::int32_t& id : ids) id = *sampler.sample(logits);
  return ids;
}

// Draws and counts; the counts of a multinomial stay within six standard deviations of their
// expectations. The seed is fixed, so that the outcome is too.
void expect_frequencies(const SamplingOptions& options, const std::vector<float>& logits,
                        const std::vector<double>& probabilities) {
  constexpr std::size_t kDraws = 30000;
  std::vector<double> counts(logits.size());
  for (const std::int32_t id : drawn(options, logits, kDraws)) {
    counts.at(static_cast<std::size_t>(id)) += 1;
  }
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const double expected = probabilities[i] * static_cast<double>(kDraws);
    const double deviation = std::sqrt(expected * (1 - probabilities[i]));
    EXPECT_FALSE(!(std::abs(counts[i] - expected) <= 6 * deviation))
        << "token " << i << ": drawn " << counts[i] << ", expected " << expected << " +- "
        << 6 * deviation;
  }
}

// Logits of tokens whose weights are 1, 2, 4 and 8.
const std::vector<float> kPowersOfTwo = {0.0F, std::log(2.0F), std::log(4.0F), std::log(8.0F)};

TEST(Sampler, GreedyTakesTheHighestLogit) {
  Sampler sampler = created({});
  EXPECT_EQ(*sampler.sample(std::vector<float>{-1, 3, 2}), 1);
  EXPECT_EQ(*sampler.sample(std::vector<float>{-5}), 0);
  EXPECT_EQ(*sampler.sample(std::vector<float>{-kInfinity, -7, -kInfinity}), 1);
}

TEST(Sampler, GreedyBreaksTiesToTheLowestId) {
  Sampler sampler = created({});
  EXPECT_EQ(*sampler.sample(std::vector<float>{1, 3, 3, 3}), 1);
  EXPECT_EQ(*sampler.sample(std::vector<float>{-0.0F, 0.0F}), 0);
}

TEST(Sampler, RejectsLogitsThatAreNotFinite) {
  for (const double temperature : {0.0, 1.0}) {
    Sampler sampler = created({.temperature = temperature});
    const Result<std::int32_t> not_a_number = sampler.sample(std::vector<float>{1, 2, kNan});
    ASSERT_FALSE(not_a_number);
    EXPECT_EQ(not_a_number.error().message(),
              "NonFinite: sample logits[2]: expected a finite number or -Inf, found NaN");
    const Result<std::int32_t> infinite = sampler.sample(std::vector<float>{1, kInfinity, 2});
    ASSERT_FALSE(infinite);
    EXPECT_EQ(infinite.error().message(),
              "NonFinite: sample logits[1]: expected a finite number or -Inf, found +Inf");
    const Result<std::int32_t> nothing = sampler.sample(std::vector<float>{-kInfinity, -kInfinity});
    ASSERT_FALSE(nothing);
    EXPECT_EQ(nothing.error().kind, ErrorKind::kNonFinite);
    const Result<std::int32_t> empty = sampler.sample(std::vector<float>{});
    ASSERT_FALSE(empty);
    EXPECT_EQ(empty.error().kind, ErrorKind::kInvalidShape);
  }
}

TEST(Sampler, RejectsOptionsOutsideTheirRange) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  const auto where = [](const SamplingOptions& options) {
    const Result<Sampler> sampler = Sampler::create(options);
    return sampler ? std::string() : sampler.error().where + " " + sampler.error().found;
  };
  EXPECT_EQ(where({.temperature = -0.5}), "sampling option temperature -0.5");
  EXPECT_EQ(where({.temperature = nan}), "sampling option temperature nan");
  EXPECT_EQ(where({.temperature = infinity}), "sampling option temperature inf");
  EXPECT_EQ(where({.top_p = 1.5}), "sampling option top_p 1.5");
  EXPECT_EQ(where({.top_p = -1e-9}), "sampling option top_p -1e-09");
  EXPECT_EQ(where({.top_p = nan}), "sampling option top_p nan");
  EXPECT_EQ(where({.min_p = -1}), "sampling option min_p -1");
  EXPECT_EQ(where({.min_p = nan}), "sampling option min_p nan");
  EXPECT_EQ(where({.temperature = 1, .top_p = 0, .min_p = 1}), "");
}

// Expected ids from an independent implementation (arbitrary-precision integers, library exp).
TEST(Sampler, DrawsAreTheSameOnEveryPlatform) {
  const std::vector<float> logits = {0.5F, -1.25F, 2.0F, 0.0F, 1.5F, -3.0F, 1.0F, 0.25F};
  EXPECT_EQ(drawn({.temperature = 1, .seed = 1234567}, logits, 12),
            std::vector<std::int32_t>({2, 2, 3, 2, 6, 2, 4, 2, 2, 6, 2, 2}));
  EXPECT_EQ(drawn({.temperature = 0.8, .seed = 42}, logits, 24),
            std::vector<std::int32_t>(
                {4, 2, 2, 2, 0, 6, 2, 4, 2, 4, 2, 2, 2, 2, 4, 2, 2, 2, 2, 4, 7, 1, 4, 4}));
  EXPECT_EQ(
      drawn({.temperature = 0.8, .top_k = 5, .top_p = 0.9, .min_p = 0.05, .seed = 42}, logits, 24),
      std::vector<std::int32_t>(
          {4, 2, 2, 2, 2, 6, 2, 6, 2, 4, 2, 2, 4, 4, 4, 2, 2, 2, 2, 4, 0, 2, 4, 4}));
}

TEST(Sampler, SeedsDecideTheDraws) {
  const std::vector<float> flat(1000, 0.0F);
  EXPECT_EQ(drawn({.temperature = 1, .seed = 5}, flat, 50),
            drawn({.temperature = 1, .seed = 5}, flat, 50));
  EXPECT_NE(drawn({.temperature = 1, .seed = 5}, flat, 50),
            drawn({.temperature = 1, .seed = 6}, flat, 50));
}

TEST(Sampler, FrequenciesAreTheSoftmax) {
  expect_frequencies({.temperature = 1, .seed = 1}, kPowersOfTwo,
                     {1 / 15.0, 2 / 15.0, 4 / 15.0, 8 / 15.0});
}

TEST(Sampler, TemperatureDividesTheLogits) {
  expect_frequencies({.temperature = 0.5, .seed = 2}, kPowersOfTwo,
                     {1 / 85.0, 4 / 85.0, 16 / 85.0, 64 / 85.0});
}

TEST(Sampler, TopKKeepsTheHighestRanks) {
  expect_frequencies({.temperature = 1, .top_k = 2, .seed = 3}, kPowersOfTwo,
                     {0, 0, 4 / 12.0, 8 / 12.0});
  expect_frequencies({.temperature = 1, .top_k = 2, .seed = 3}, {1, 1, 1, 0}, {0.5, 0.5, 0, 0});
  expect_frequencies({.temperature = 1, .top_k = 9, .seed = 3}, {0, 0}, {0.5, 0.5});
}

TEST(Sampler, TopPKeepsTheSmallestSetOfEnoughMass) {
  // 8/15 = 0.533, 12/15 = 0.8, 14/15 = 0.933.
  const auto with = [](double top_p) {
    return SamplingOptions{.temperature = 1, .top_p = top_p, .seed = 4};
  };
  expect_frequencies(with(0), kPowersOfTwo, {0, 0, 0, 1});
  expect_frequencies(with(0.53), kPowersOfTwo, {0, 0, 0, 1});
  expect_frequencies(with(0.54), kPowersOfTwo, {0, 0, 4 / 12.0, 8 / 12.0});
  expect_frequencies(with(0.81), kPowersOfTwo, {0, 2 / 14.0, 4 / 14.0, 8 / 14.0});
  expect_frequencies(with(0.94), kPowersOfTwo, {1 / 15.0, 2 / 15.0, 4 / 15.0, 8 / 15.0});
  // Mass that is reached exactly is enough; of equal logits the lower ids stay.
  expect_frequencies(with(0.5), {0, 0, 0, 0}, {0.5, 0.5, 0, 0});
}

TEST(Sampler, TopPIsAShareOfWhatTopKLeaves) {
  // Of all mass 0.6 needs two tokens; after top_k = 2 the highest has 8/12 of it.
  expect_frequencies({.temperature = 1, .top_k = 2, .top_p = 0.6, .seed = 5}, kPowersOfTwo,
                     {0, 0, 0, 1});
}

TEST(Sampler, MinPIsRelativeToTheHighestProbability) {
  expect_frequencies({.temperature = 1, .min_p = 0.2, .seed = 6}, kPowersOfTwo,
                     {0, 2 / 14.0, 4 / 14.0, 8 / 14.0});
  expect_frequencies({.temperature = 1, .min_p = 1, .seed = 6}, {2, 1, 2}, {0.5, 0, 0.5});
}

TEST(Sampler, NeverDrawsWhatHasNoProbability) {
  const std::vector<float> logits = {-kInfinity, 0, -kInfinity, -1e30F, 0, -kInfinity};
  expect_frequencies({.temperature = 1, .seed = 7}, logits, {0, 0.5, 0, 0, 0.5, 0});
  expect_frequencies({.temperature = 1, .top_k = 4, .seed = 7}, logits, {0, 0.5, 0, 0, 0.5, 0});
}

TEST(Sampler, ExtremeTemperaturesStayFinite) {
  expect_frequencies({.temperature = 1e-300, .seed = 8}, {1, 2, -3e38F}, {0, 1, 0});
  expect_frequencies({.temperature = 1e300, .seed = 8}, {3e38F, -3e38F}, {0.5, 0.5});
}

TEST(Sampler, EverySuccessDrawsOneNumber) {
  const SamplingOptions options = {.temperature = 1, .top_p = 0.5, .seed = 9};
  const std::vector<float> flat(1000, 0.0F);
  const std::vector<std::int32_t> ids = drawn(options, flat, 4);
  Sampler sampler = created(options);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(*sampler.sample(std::vector<float>{0, 100}), 1);  // top_p leaves one token.
    EXPECT_FALSE(sampler.sample(std::vector<float>{kNan}));
  }
  EXPECT_EQ(*sampler.sample(flat), ids[3]);
}

}  // namespace
}  // namespace refute
