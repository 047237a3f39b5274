#include "kernels/quant/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>

namespace refute {
namespace {

TEST(Half, EveryBitPatternSurvivesTheRoundTrip) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float value = float_from_half(half);
    if ((half & 0x7c00u) == 0x7c00u && (half & 0x3ffu) != 0) {
      EXPECT_TRUE(std::isnan(value)) << std::hex << bits;
      EXPECT_TRUE(std::isnan(float_from_half(half_from_float(value)))) << std::hex << bits;
    } else {
      EXPECT_EQ(half_from_float(value), half) << std::hex << bits;
    }
  }
}

TEST(Half, KnownValuesConvertExactly) {
  EXPECT_EQ(float_from_half(0x3c00), 1.0f);
  EXPECT_EQ(float_from_half(0xc000), -2.0f);
  EXPECT_EQ(float_from_half(0x7bff), 65504.0f);
  EXPECT_EQ(float_from_half(0x0001), 0x1p-24f);
  EXPECT_EQ(float_from_half(0x03ff), 1023 * 0x1p-24f);
  EXPECT_EQ(float_from_half(0x7c00), std::numeric_limits<float>::infinity());
}

TEST(Half, TiesRoundToEven) {
  EXPECT_EQ(half_from_float(1.0f + 0x1p-11f), 0x3c00);      // Between 1 and its successor.
  EXPECT_EQ(half_from_float(1.0f + 3 * 0x1p-11f), 0x3c02);  // Between the first two successors.
  EXPECT_EQ(half_from_float(1.0f + 0x1p-11f + 0x1p-23f), 0x3c01);  // Just above the tie.
  EXPECT_EQ(half_from_float(0x1p-25f), 0x0000);  // Half of the smallest subnormal.
  EXPECT_EQ(half_from_float(3 * 0x1p-25f), 0x0002);
  EXPECT_EQ(half_from_float(65519.996f), 0x7bff);
  EXPECT_EQ(half_from_float(65520.0f), 0x7c00);  // The tie with the next power of two is infinity.
}

TEST(BFloat16, TruncatesWithRoundingToEven) {
  EXPECT_EQ(bfloat16_from_float(1.0f), 0x3f80);
  EXPECT_EQ(bfloat16_from_float(1.0f + 0x1p-8f), 0x3f80);
  EXPECT_EQ(bfloat16_from_float(1.0f + 3 * 0x1p-8f), 0x3f82);
  EXPECT_TRUE(std::isnan(float_from_bfloat16(bfloat16_from_float(std::nanf("")))));
  EXPECT_EQ(float_from_bfloat16(0xc040), -3.0f);
}

}  // namespace
}  // namespace refute
