#include "falsifiers/textbook_math.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace refute {
namespace {

TEST(TextbookMath, RmsNormOfAHandComputedRow) {
  const std::vector<double> x = {3.0, -4.0};
  const std::vector<float> gain = {1.0f, 2.0f};
  const auto y = textbook::rms_norm(x, gain, 0.0);
  EXPECT_DOUBLE_EQ(y[0], 3.0 / std::sqrt(12.5));
  EXPECT_DOUBLE_EQ(y[1], -8.0 / std::sqrt(12.5));
}

TEST(TextbookMath, RopeTurnsElementIWithElementIPlusHalf) {
  const std::vector<double> x = {1.0, 0.0, 0.0, 0.0};
  const auto y = textbook::rope(x, 4, 100.0, 3);
  EXPECT_DOUBLE_EQ(y[0], std::cos(3.0));
  EXPECT_DOUBLE_EQ(y[2], std::sin(3.0));
  const std::vector<double> other = {0.0, 0.0, 0.0, 1.0};
  const auto z = textbook::rope(other, 4, 100.0, 3);
  EXPECT_DOUBLE_EQ(z[1], -std::sin(0.3));
  EXPECT_DOUBLE_EQ(z[3], std::cos(0.3));
}

TEST(TextbookMath, AttentionOfTwoPositionsIsASigmoid) {
  const std::vector<double> q = {2.0, 0.0, 0.0, 1.0};
  const std::vector<double> k = {1.0, 0.0, 0.0, 0.0};
  const std::vector<double> v = {1.0, 2.0, 3.0, 4.0};
  const auto y = textbook::attention({2, 1, 2}, q, {k.data(), 2, 2}, {v.data(), 2, 2});
  const double first = 1.0 / (1.0 + std::exp(-2.0 / std::sqrt(2.0)));
  EXPECT_DOUBLE_EQ(y[0], first * 1.0 + (1.0 - first) * 3.0);
  EXPECT_DOUBLE_EQ(y[3], 3.0);
}

TEST(TextbookMath, SiluOfOne) { EXPECT_DOUBLE_EQ(textbook::silu(1.0), 0.7310585786300049); }

}  // namespace
}  // namespace refute
