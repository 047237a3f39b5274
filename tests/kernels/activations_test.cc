#include "kernels/quant/activations.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace refute {
namespace {

struct Quantized {
  std::vector<std::int8_t> q;
  std::vector<float> d;
  std::vector<std::int32_t> sums;
};

Quantized quantize(const std::vector<float>& x) {
  Quantized result{std::vector<std::int8_t>(x.size()), std::vector<float>(x.size() / 32),
                   std::vector<std::int32_t>(x.size() / 32)};
  quantize_activation_row(x, result.q, result.d, result.sums);
  return result;
}

TEST(Activations, TiesRoundToEvenAndTheMaximumMapsTo127) {
  std::vector<float> x(32, 0.0f);
  x[0] = -127.0f;  // d = 1 exactly.
  x[1] = 0.5f;
  x[2] = 1.5f;
  x[3] = 2.5f;
  x[4] = -2.5f;
  const Quantized result = quantize(x);
  EXPECT_EQ(result.d[0], 1.0f);
  EXPECT_EQ(result.q[0], -127);
  EXPECT_EQ(result.q[1], 0);
  EXPECT_EQ(result.q[2], 2);
  EXPECT_EQ(result.q[3], 2);
  EXPECT_EQ(result.q[4], -2);
  EXPECT_EQ(result.sums[0], -127 + 0 + 2 + 2 - 2);
}

TEST(Activations, AZeroBlockGivesZeros) {
  const Quantized result = quantize(std::vector<float>(64, 0.0f));
  EXPECT_EQ(result.d[1], 0.0f);
  EXPECT_EQ(result.sums[1], 0);
  for (const std::int8_t q : result.q) EXPECT_EQ(q, 0);
}

TEST(Activations, BlocksAreIndependent) {
  std::vector<float> x(64, 1.0f);
  x[40] = 1000.0f;
  const Quantized result = quantize(x);
  EXPECT_EQ(result.q[0], 127);
  EXPECT_EQ(result.q[32], 0);
  EXPECT_EQ(result.q[40], 127);
}

TEST(Activations, TheSmallestSubnormalsStayInRange) {
  for (int scale = 1; scale < 300; ++scale) {
    std::vector<float> x(32, 0.0f);
    x[3] = static_cast<float>(scale) * std::numeric_limits<float>::denorm_min();
    const Quantized result = quantize(x);
    EXPECT_LE(result.q[3], 127);
    EXPECT_GE(result.q[3], 0);
  }
}

TEST(Activations, NonFiniteInputPoisonsItsBlockOnly) {
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    std::vector<float> x(64, 1.0f);
    x[5] = bad;
    const Quantized result = quantize(x);
    EXPECT_TRUE(std::isnan(result.d[0]));
    EXPECT_EQ(result.q[6], 0);
    EXPECT_FALSE(std::isnan(result.d[1]));
    EXPECT_EQ(result.q[32], 127);
  }
}

}  // namespace
}  // namespace refute
