// rms_norm, rope, swiglu, combine and add of the CPU backend.

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/combine.h"
#include "kernels/math.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/swiglu.h"
#include "tests/kernels/cpu_support.h"

namespace refute {
namespace {

// Sizes around the widths of the vectors and the 128 lanes.
constexpr std::size_t kSizes[] = {1, 2, 7, 8, 15, 16, 31, 64, 127, 128, 130, 257, 2304};

TEST(CpuRmsNorm, MatchesHandComputedRow) {
  const Matrix<float> x(1, 4, {1.0f, -1.0f, 7.0f, 7.0f});  // Mean square 25.
  const std::vector<float> weight = {1.0f, 2.0f, 1.0f, -1.0f};
  for (const cpu::Context& context : cpu_test::all_contexts()) {
    Matrix<float> y(1, 4);
    cpu::rms_norm(context, x.view(), weight, 0.0f, y.view());
    EXPECT_TRUE(cpu_test::same_bits(y.flat(),
                                    std::vector<float>{0.2f, -0.4f, 7.0f * 0.2f, -(7.0f * 0.2f)}));
    cpu::rms_norm(context, x.view(), weight, 75.0f, y.view());
    EXPECT_TRUE(cpu_test::same_bits(y.flat(),
                                    std::vector<float>{0.1f, -0.2f, 7.0f * 0.1f, -(7.0f * 0.1f)}));
  }
}

TEST(CpuRmsNorm, FollowsTheDocumentedOrderBitForBit) {
  for (const std::size_t size : kSizes) {
    const Matrix<float> x = cpu_test::random_matrix(9, size, 3, 4.0f);
    const Matrix<float> weight = cpu_test::random_matrix(1, size, 4);
    Matrix<float> expected(9, size);
    for (std::size_t t = 0; t < 9; ++t) {
      const float mean = cpu_test::textbook_dot(x.row(t), x.row(t)) / static_cast<float>(size);
      const float scale = 1.0f / std::sqrt(mean + 1e-6f);
      for (std::size_t i = 0; i < size; ++i) expected(t, i) = (x(t, i) * scale) * weight(0, i);
    }
    for (const cpu::Context& context : cpu_test::all_contexts()) {
      Matrix<float> y(9, size);
      cpu::rms_norm(context, x.view(), weight.flat(), 1e-6f, y.view());
      ASSERT_TRUE(cpu_test::same_bits(y.flat(), expected.flat())) << size;
      Matrix<float> in_place = x;
      cpu::rms_norm(context, in_place.view(), weight.flat(), 1e-6f, in_place.view());
      ASSERT_TRUE(cpu_test::same_bits(in_place.flat(), expected.flat())) << size;
    }
  }
}

TEST(CpuRmsNorm, IsCloseToTheFloat64Oracle) {
  const Matrix<float> x = cpu_test::random_matrix(17, 2304, 5, 3.0f);
  const Matrix<float> weight = cpu_test::random_matrix(1, 2304, 6);
  Matrix<double> expected(17, 2304);
  oracle::rms_norm(cpu_test::widen(x.view()).view(), weight.flat(), 1e-6, expected.view());
  for (const cpu::Context& context : cpu_test::all_contexts()) {
    Matrix<float> y(17, 2304);
    cpu::rms_norm(context, x.view(), weight.flat(), 1e-6f, y.view());
    const double error = cpu_test::relative_l2(y.flat(), expected.flat());
    EXPECT_FALSE(!(error <= 5e-6)) << error;
  }
}

TEST(CpuRope, MatchesHandComputedTurns) {
  const RopeTable table(100.0, 4, 3);  // Angles p and p / 10.
  for (const cpu::Context& context : cpu_test::all_contexts()) {
    Matrix<float> x(2, 4, {1.0f, 2.0f, 3.0f, 4.0f, 1.0f, 0.0f, 0.0f, 1.0f});
    cpu::rope(context, table, 1, 0, x.view());
    EXPECT_TRUE(cpu_test::same_bits(x.row(0), std::vector<float>{1.0f, 2.0f, 3.0f, 4.0f}));
    EXPECT_TRUE(cpu_test::same_bits(
        x.row(1),
        std::vector<float>{static_cast<float>(std::cos(1.0)), -static_cast<float>(std::sin(0.1)),
                           static_cast<float>(std::sin(1.0)), static_cast<float>(std::cos(0.1))}));
  }
}

TEST(CpuRope, FollowsTheDocumentedOrderBitForBitAndStaysCloseToFloat64) {
  for (const std::size_t head_dim : {2, 8, 24, 64, 128, 160}) {
    const std::size_t half = head_dim / 2;
    const RopeTable table(1e6, head_dim, 1100);
    const Matrix<float> x = cpu_test::random_matrix(50, 3 * head_dim, 7);
    Matrix<float> expected = x;
    for (std::size_t t = 0; t < 50; ++t) {
      const auto cosines = table.cosines_f32(1000 + t);
      const auto sines = table.sines_f32(1000 + t);
      for (std::size_t h = 0; h < 3; ++h) {
        for (std::size_t i = 0; i < half; ++i) {
          const float a = x(t, h * head_dim + i);
          const float b = x(t, h * head_dim + half + i);
          expected(t, h * head_dim + i) = std::fma(a, cosines[i], -(b * sines[i]));
          expected(t, h * head_dim + half + i) = std::fma(b, cosines[i], a * sines[i]);
        }
      }
    }
    Matrix<double> wide = cpu_test::widen(x.view());
    oracle::rope(table, 3, 1000, wide.view());
    for (const cpu::Context& context : cpu_test::all_contexts()) {
      Matrix<float> y = x;
      cpu::rope(context, table, 3, 1000, y.view());
      ASSERT_TRUE(cpu_test::same_bits(y.flat(), expected.flat())) << head_dim;
      const double error = cpu_test::relative_l2(y.flat(), wide.flat());
      EXPECT_FALSE(!(error <= 5e-6)) << error;
    }
  }
}

TEST(CpuSwiglu, MatchesGoldens) {
  const Matrix<float> gate(1, 4, {1.0f, 0.0f, -1.2784645f, -200.0f});
  const Matrix<float> up(1, 4, {2.0f, 5.0f, 1.0f, 3.0f});
  for (const cpu::Context& context : cpu_test::all_contexts()) {
    Matrix<float> y(1, 4);
    cpu::swiglu(context, gate.view(), up.view(), y.view());
    EXPECT_NEAR(y(0, 0), 2.0f * 0.7310586f, 2e-7f);
    EXPECT_EQ(y(0, 1), 0.0f);
    EXPECT_NEAR(y(0, 2), -0.2784645f, 1e-7f);
    EXPECT_EQ(y(0, 3), 0.0f);
  }
}

TEST(CpuSwiglu, FollowsTheDocumentedOrderBitForBitAndStaysCloseToFloat64) {
  for (const std::size_t size : kSizes) {
    Matrix<float> gate = cpu_test::random_matrix(9, size, 9, 3.0f);
    // Gates whose exponentials underflow, are subnormal and overflow.
    for (std::size_t i = 0; i < size; ++i) gate(1, i) = -120.0f + static_cast<float>(i) / 4.0f;
    const Matrix<float> up = cpu_test::random_matrix(9, size, 10);
    Matrix<float> expected(9, size);
    for (std::size_t i = 0; i < gate.size(); ++i) {
      const float g = gate.flat()[i];
      expected.flat()[i] = (g / (1.0f + exp32(-g))) * up.flat()[i];
    }
    Matrix<double> wide(9, size);
    oracle::swiglu(cpu_test::widen(gate.view()).view(), cpu_test::widen(up.view()).view(),
                   wide.view());
    for (const cpu::Context& context : cpu_test::all_contexts()) {
      Matrix<float> y(9, size);
      cpu::swiglu(context, gate.view(), up.view(), y.view());
      ASSERT_TRUE(cpu_test::same_bits(y.flat(), expected.flat())) << size;
      const double error = cpu_test::relative_l2(y.flat(), wide.flat());
      EXPECT_FALSE(!(error <= 5e-6)) << error;
      Matrix<float> in_place = gate;
      cpu::swiglu(context, in_place.view(), up.view(), in_place.view());
      ASSERT_TRUE(cpu_test::same_bits(in_place.flat(), expected.flat())) << size;
    }
  }
}

TEST(CpuSwiglu, NaNStaysNaN) {
  for (const cpu::Context& context : cpu_test::all_contexts()) {
    for (const std::size_t at : {0, 3, 16, 18}) {
      Matrix<float> gate = cpu_test::random_matrix(1, 19, 9);
      gate(0, at) = -std::nanf("");
      const Matrix<float> up = cpu_test::random_matrix(1, 19, 10);
      Matrix<float> y(1, 19);
      cpu::swiglu(context, gate.view(), up.view(), y.view());
      for (std::size_t i = 0; i < 19; ++i) EXPECT_EQ(std::isnan(y(0, i)), i == at);
    }
  }
}

TEST(CpuCombine, MatchesHandComputedSum) {
  const Matrix<float> experts(4, 2, {1.0f, 2.0f, 3.0f, 4.0f, 5.0f, 6.0f, 7.0f, 8.0f});
  const Matrix<float> weight(2, 2, {0.5f, 0.25f, 1.0f, -1.0f});
  for (const cpu::Context& context : cpu_test::all_contexts()) {
    Matrix<float> y(2, 2);
    cpu::combine(context, experts.view(), weight.view(), y.view());
    EXPECT_TRUE(cpu_test::same_bits(y.flat(), std::vector<float>{1.25f, 2.0f, -2.0f, -2.0f}));
  }
}

TEST(CpuCombine, FollowsTheDocumentedOrderBitForBit) {
  for (const std::size_t size : kSizes) {
    for (const std::size_t k : {1, 2, 8}) {
      const Matrix<float> experts = cpu_test::random_matrix(9 * k, size, 11);
      const Matrix<float> weight = cpu_test::random_matrix(9, k, 12);
      Matrix<float> expected(9, size);
      for (std::size_t t = 0; t < 9; ++t) {
        for (std::size_t i = 0; i < size; ++i) {
          for (std::size_t r = 0; r < k; ++r) {
            expected(t, i) = std::fma(weight(t, r), experts(t * k + r, i), expected(t, i));
          }
        }
      }
      Matrix<double> wide(9, size);
      oracle::combine(cpu_test::widen(experts.view()).view(), cpu_test::widen(weight.view()).view(),
                      wide.view());
      for (const cpu::Context& context : cpu_test::all_contexts()) {
        Matrix<float> y(9, size);
        cpu::combine(context, experts.view(), weight.view(), y.view());
        ASSERT_TRUE(cpu_test::same_bits(y.flat(), expected.flat())) << size << " of " << k;
        const double error = cpu_test::relative_l2(y.flat(), wide.flat());
        EXPECT_FALSE(!(error <= 5e-6)) << error;
      }
    }
  }
}

TEST(CpuAdd, AddsElementwiseAlsoInPlace) {
  const Matrix<float> a = cpu_test::random_matrix(9, 2305, 13);
  const Matrix<float> b = cpu_test::random_matrix(9, 2305, 14, 1e-3f);
  Matrix<float> expected(9, 2305);
  for (std::size_t i = 0; i < a.size(); ++i) expected.flat()[i] = a.flat()[i] + b.flat()[i];
  for (const cpu::Context& context : cpu_test::all_contexts()) {
    Matrix<float> y(9, 2305);
    cpu::add(context, a.view(), b.view(), y.view());
    EXPECT_TRUE(cpu_test::same_bits(y.flat(), expected.flat()));
    Matrix<float> in_place = b;
    cpu::add(context, a.view(), in_place.view(), in_place.view());
    EXPECT_TRUE(cpu_test::same_bits(in_place.flat(), expected.flat()));
  }
}

}  // namespace
}  // namespace refute
