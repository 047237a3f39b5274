#include "validators/bench/fit.h"

#include <gtest/gtest.h>

#include <vector>

namespace refute {
namespace {

BenchPoint point(std::size_t value, double prefill, double decode) {
  BenchPoint point{.threads = value, .layers = value};
  point.shape.prompt = value;
  point.shape.depth = value;
  point.prefill = {.seconds = {prefill, prefill, prefill}, .tokens = value};
  point.decode = {.seconds = {decode, decode, decode}, .tokens = 1};
  return point;
}

TEST(BenchFit, FindsALineAndHowWellItFits) {
  const std::vector<double> x = {1, 2, 3, 4};
  const auto line = fit_line(x, std::vector<double>{5, 7, 9, 11});
  ASSERT_TRUE(line);
  EXPECT_NEAR(line->intercept, 3.0, 1e-12);
  EXPECT_NEAR(line->slope, 2.0, 1e-12);
  EXPECT_NEAR(*line->r_squared, 1.0, 1e-12);
  const auto rough = fit_line(x, std::vector<double>{5, 9, 5, 9});
  EXPECT_NEAR(*rough->r_squared, 0.2, 1e-12);
  EXPECT_FALSE(fit_line(std::vector<double>{2, 2}, std::vector<double>{1, 3}));
  EXPECT_FALSE(fit_line(std::vector<double>{2}, std::vector<double>{1}));
  EXPECT_FALSE(fit_line(std::vector<double>{1, 2}, std::vector<double>{1, 3})->r_squared)
      << "a line through two points fits always";
}

TEST(BenchFit, FindsThePowerOfAGrowth) {
  EXPECT_NEAR(*fit_exponent(std::vector<double>{1, 2, 4}, std::vector<double>{3, 12, 48}), 2.0,
              1e-12);
  EXPECT_FALSE(fit_exponent(std::vector<double>{0, 2}, std::vector<double>{1, 3}));
}

TEST(BenchFit, SaysWhatALayerCosts) {
  const std::vector<BenchPoint> points = {point(1, 1.0, 0.012), point(2, 2.0, 0.022),
                                          point(4, 4.0, 0.042)};
  const auto growths = growth_of(SweepKind::kLayers, points);
  ASSERT_EQ(growths.size(), 2U);
  EXPECT_EQ(growths[1].cost, "decode, seconds a token");
  EXPECT_NEAR(growths[1].line.slope, 0.01, 1e-12);
  EXPECT_EQ(growths[1].sentence,
            "decode, seconds a token: 2.000 ms + 10.000 ms a layer, R2 1.0000; grows with the "
            "power 0.90");
  EXPECT_TRUE(growth_of(SweepKind::kNone, points).empty());
  const auto falling =
      growth_of(SweepKind::kLayers, std::vector{point(1, 1.0, 0.03), point(2, 2.0, 0.02)});
  EXPECT_EQ(falling[1].sentence,
            "decode, seconds a token: 40.000 ms - 10.000 ms a layer; grows with the power -0.58");
  const auto prompts = growth_of(SweepKind::kPrompt, points);
  ASSERT_EQ(prompts.size(), 1U);
  EXPECT_EQ(prompts[0].cost, "prefill, seconds");
}

TEST(BenchFit, FitsThreadsAgainstTheirInverse) {
  const std::vector<BenchPoint> points = {point(1, 1.0, 0.011), point(2, 1.0, 0.006),
                                          point(10, 1.0, 0.002)};
  const auto growths = growth_of(SweepKind::kThreads, points);
  ASSERT_EQ(growths.size(), 2U);
  EXPECT_EQ(growths[1].variable, "1 / threads");
  EXPECT_NEAR(growths[1].line.intercept, 0.001, 1e-12);
  EXPECT_NEAR(growths[1].line.slope, 0.01, 1e-12);
}

TEST(BenchFit, FindsPromptsThatAreSlowerThanHalfAsLongOnes) {
  std::vector<BenchPoint> points = {point(16, 0.16, 1.0), point(32, 0.30, 1.0),
                                    point(64, 0.60, 1.0)};
  EXPECT_TRUE(slower_prompts(points).empty());
  points[2].prefill.seconds = {0.7, 0.7, 0.7};
  ASSERT_EQ(slower_prompts(points).size(), 1U);
  EXPECT_EQ(slower_prompts(points)[0],
            "a prompt of 64 tokens takes longer per token than one of 32");
  points[2].prefill.seconds = {0.5, 0.7, 0.9};
  EXPECT_TRUE(slower_prompts(points).empty()) << "within the spread";
}

TEST(BenchSeries, TakesMedianAndSpread) {
  const Series odd{.seconds = {5.0, 1.0, 2.0}, .tokens = 10};
  EXPECT_EQ(odd.median(), 2.0);
  EXPECT_EQ(odd.spread(), 2.0);
  EXPECT_EQ(odd.tokens_per_second(), 5.0);
  EXPECT_EQ((Series{.seconds = {4.0, 1.0, 2.0, 3.0}, .tokens = 1}).median(), 2.5);
}

}  // namespace
}  // namespace refute
