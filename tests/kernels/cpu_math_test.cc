#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "kernels/cpu/simd.h"
#include "kernels/math.h"
#include "tests/kernels/cpu_support.h"

namespace refute {
namespace {

// Every 997th float of [-105, 90].
std::vector<float> float_samples() {
  std::vector<float> samples;
  for (std::uint64_t bits = 0; bits <= 0xffffffffu; bits += 997) {
    const auto x = std::bit_cast<float>(static_cast<std::uint32_t>(bits));
    if (x >= -105.0f && x <= 90.0f) samples.push_back(x);
  }
  return samples;
}

TEST(Exp32, IsWithinOneUnitInTheLastPlaceAndUnderflowsGradually) {
  const std::vector<float> samples = float_samples();
  ASSERT_GT(samples.size(), 2000000u);
  std::size_t subnormal = 0;
  for (const float x : samples) {
    const double exact = std::exp(static_cast<double>(x));
    const float found = exp32(x);
    if (exact >= 0x1.ffffffp127) {  // Rounds to infinity.
      ASSERT_EQ(found, std::numeric_limits<float>::infinity()) << x;
      continue;
    }
    int exponent = 0;
    std::frexp(exact, &exponent);
    const double unit = std::ldexp(1.0, std::max(exponent - 24, -149));
    const double error = std::fabs(static_cast<double>(found) - exact) / unit;
    ASSERT_FALSE(!(error < 1.0)) << x << ": " << found << " is off by " << error;
    if (found > 0.0f && found < std::numeric_limits<float>::min()) ++subnormal;
  }
  EXPECT_GT(subnormal, 100u);
}

TEST(Exp32, KeepsTheSpecialValues) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(exp32(0.0f), 1.0f);
  EXPECT_EQ(exp32(-0.0f), 1.0f);
  EXPECT_EQ(exp32(std::numeric_limits<float>::denorm_min()), 1.0f);
  EXPECT_EQ(exp32(1.0f), 2.7182817f);
  EXPECT_EQ(exp32(-kInfinity), 0.0f);
  EXPECT_EQ(exp32(kInfinity), kInfinity);
  EXPECT_EQ(exp32(std::numeric_limits<float>::max()), kInfinity);
  EXPECT_EQ(exp32(std::numeric_limits<float>::lowest()), 0.0f);
  EXPECT_TRUE(std::isnan(exp32(std::nanf(""))));
  EXPECT_TRUE(std::isnan(exp32(-std::nanf(""))));
}

TEST(Exp32, EveryInstructionSetGivesTheBitsOfTheScalarSequence) {
  std::vector<float> samples;
  for (const float x : float_samples()) {
    if (x <= 0.0f) samples.push_back(x);
  }
  samples.push_back(-std::numeric_limits<float>::infinity());
  for (std::size_t first = 0; first < samples.size(); first += 100) {
    // The maximum in front, so that terms are exp32 of themselves.
    std::vector<float> arguments = {0.0f};
    arguments.insert(arguments.end(), samples.begin() + static_cast<std::ptrdiff_t>(first),
                     samples.begin() +
                         static_cast<std::ptrdiff_t>(std::min(first + 100, samples.size())));
    std::vector<float> expected = arguments;
    std::array<float, 128> lanes{};
    for (std::size_t i = 0; i < expected.size(); ++i) lanes[i] = expected[i] = exp32(expected[i]);
    for (const cpu::Isa isa : cpu::supported_isas()) {
      const cpu::Context context = cpu_test::make_context(isa, 1);
      std::vector<float> terms = arguments;
      const cpu::AttentionTerms of = context.simd().softmax_terms(terms.data(), terms.size());
      EXPECT_TRUE(cpu_test::same_bits(terms, expected)) << cpu::isa_name(isa);
      EXPECT_EQ(of.max, 0.0f);
      EXPECT_EQ(of.sum, cpu_test::halving_tree(lanes)) << cpu::isa_name(isa);
    }
  }
}

}  // namespace
}  // namespace refute
