// The float64 oracle against hand-computed values.
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <vector>

#include "kernels/attention.h"
#include "kernels/combine.h"
#include "kernels/matmul.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/swiglu.h"

namespace refute {
namespace {

TEST(OracleMatmul, MatchesHandComputedProduct) {
  const std::vector<float> stored = {1, 2, 3, 4, 5, 6};
  const WeightView weight{TensorType::kF32, 2, 3,
                          reinterpret_cast<const std::byte*>(stored.data())};
  const Matrix<double> x(2, 3, {1, 0, -1, 2, 2, 2});
  Matrix<double> y(2, 2);
  oracle::matmul(weight, x.view(), ActivationScheme::kExact, y.view());
  EXPECT_EQ(y(0, 0), -2.0);
  EXPECT_EQ(y(0, 1), -2.0);
  EXPECT_EQ(y(1, 0), 12.0);
  EXPECT_EQ(y(1, 1), 30.0);
}

TEST(OracleMatmul, EmulationQuantizesForQuantizedWeightsOnly) {
  // One Q8_0 block of ones, d = 1 (0x3c00).
  std::vector<std::byte> q8(34, std::byte{1});
  q8[0] = std::byte{0x00};
  q8[1] = std::byte{0x3c};
  const WeightView quantized{TensorType::kQ8_0, 1, 32, q8.data()};
  const std::vector<float> ones(32, 1.0f);
  const WeightView exact{TensorType::kF32, 1, 32, reinterpret_cast<const std::byte*>(ones.data())};
  Matrix<double> x(1, 32);
  x(0, 0) = 127.0;
  x(0, 1) = 0.4;  // Rounds to 0 at d = 1.
  Matrix<double> y(1, 1);
  oracle::matmul(quantized, x.view(), ActivationScheme::kEmulatedInt8, y.view());
  EXPECT_EQ(y(0, 0), 127.0);
  oracle::matmul(quantized, x.view(), ActivationScheme::kExact, y.view());
  EXPECT_EQ(y(0, 0), 127.4);
  oracle::matmul(exact, x.view(), ActivationScheme::kEmulatedInt8, y.view());
  EXPECT_EQ(y(0, 0), 127.4);
}

TEST(OracleRmsNorm, MatchesHandComputedRow) {
  const Matrix<double> x(1, 2, {3, 4});
  const std::vector<float> weight = {1.0f, 2.0f};
  Matrix<double> y(1, 2);
  oracle::rms_norm(x.view(), weight, 0.0, y.view());
  EXPECT_DOUBLE_EQ(y(0, 0), 3 / std::sqrt(12.5));
  EXPECT_DOUBLE_EQ(y(0, 1), 8 / std::sqrt(12.5));
}

TEST(OracleRope, TurnsAPairByItsAngle) {
  const RopeTable table(10000.0, 4, 3);
  Matrix<double> x(1, 4, {1, 0, 0, 2});  // Pairs (0, 2) and (1, 3).
  oracle::rope(table, 1, 2, x.view());
  EXPECT_DOUBLE_EQ(x(0, 0), std::cos(2.0));
  EXPECT_DOUBLE_EQ(x(0, 2), std::sin(2.0));
  EXPECT_DOUBLE_EQ(x(0, 1), -2 * std::sin(0.02));
  EXPECT_DOUBLE_EQ(x(0, 3), 2 * std::cos(0.02));
}

TEST(OracleAttention, WeighsVisiblePositionsBySoftmax) {
  const AttentionShape shape{2, 1, 1};
  const Matrix<double> q(1, 2, {0.0, std::log(3.0)});
  const Matrix<double> k(3, 1, {0.0, 1.0, 100.0});
  const Matrix<double> v(3, 1, {8.0, 4.0, 1e9});
  Matrix<double> y(1, 2);
  oracle::attention(shape, q.view(), k.view(), v.view(), 1, y.view());  // Position 1 sees 0 and 1.
  EXPECT_DOUBLE_EQ(y(0, 0), 6.0);
  EXPECT_DOUBLE_EQ(y(0, 1), 0.25 * 8 + 0.75 * 4);
}

TEST(OracleSwiglu, MatchesGoldens) {
  const Matrix<double> gate(1, 4, {1.0, 0.0, -1.2784645427610738, -800.0});
  const Matrix<double> up(1, 4, {1.0, 5.0, 1.0, 1.0});
  Matrix<double> y(1, 4);
  oracle::swiglu(gate.view(), up.view(), y.view());
  EXPECT_NEAR(y(0, 0), 0.7310585786300049, 1e-15);
  EXPECT_EQ(y(0, 1), 0.0);
  EXPECT_NEAR(y(0, 2), -0.2784645427610738, 1e-15);
  EXPECT_EQ(y(0, 3), 0.0);
}

TEST(OracleCombine, WeighsRanksOfTheSameToken) {
  const Matrix<double> out(4, 1, {1, 10, 100, 1000});
  const Matrix<double> weight(2, 2, {0.25, 0.75, 0.5, 0.5});
  Matrix<double> y(2, 1);
  oracle::combine(out.view(), weight.view(), y.view());
  EXPECT_EQ(y(0, 0), 7.75);
  EXPECT_EQ(y(1, 0), 550.0);
}

}  // namespace
}  // namespace refute
