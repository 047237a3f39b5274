#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "kernels/matmul.h"
#include "tests/kernels/cpu_support.h"

namespace refute {
namespace {

using cpu_test::Blocks;
using cpu_test::StoredWeights;

constexpr std::array kQuantizedTypes = {TensorType::kQ8_0, TensorType::kQ4_K, TensorType::kQ5_K,
                                        TensorType::kQ6_K};
constexpr std::array kFloatTypes = {TensorType::kF32, TensorType::kF16, TensorType::kBF16};
constexpr std::size_t kTokenCounts[] = {1, 2, 3, 4, 5, 8, 9, 17};
constexpr std::size_t kRowCounts[] = {1, 7, 33};

template <typename Block>
Block block_at(const std::byte* row, std::size_t index) {
  Block block;
  std::memcpy(&block, row + index * sizeof(Block), sizeof(Block));
  return block;
}

// v[b] of kernels/matmul.h, one element at a time.
float textbook_v(TensorType type, const std::byte* row, std::size_t b, const std::int8_t* q,
                 std::int32_t sum) {
  const int j = static_cast<int>(b % 8);
  std::int32_t total = 0;
  if (type == TensorType::kQ8_0) {
    const auto block = block_at<BlockQ8_0>(row, b);
    for (int l = 0; l < 32; ++l) total += block.q[l] * q[l];
    return float_from_half(block.d) * static_cast<float>(total);
  }
  if (type == TensorType::kQ6_K) {
    const auto block = block_at<BlockQ6K>(row, b / 8);
    for (int l = 0; l < 32; ++l) {
      const int low = block.q_low[64 * (j / 4) + 32 * (j % 2) + l] >> (4 * (j % 4 / 2)) & 15;
      const int high = block.q_high[32 * (j / 4) + l] >> (2 * (j % 4)) & 3;
      total += block.scales[2 * j + l / 16] * (low + 16 * high - 32) * q[l];
    }
    EXPECT_LE(std::abs(total), 16646144);  // Below 2^24: exact in float32.
    return float_from_half(block.d) * static_cast<float>(total);
  }
  const bool is_q5 = type == TensorType::kQ5_K;
  const auto q4 = block_at<BlockQ4K>(row + (is_q5 ? 0 : b / 8 * sizeof(BlockQ4K)), 0);
  const auto q5 = is_q5 ? block_at<BlockQ5K>(row, b / 8) : BlockQ5K{};
  const ScaleMin scale_min = unpack_scale_min(is_q5 ? q5.scales : q4.scales, j);
  for (int l = 0; l < 32; ++l) {
    const int byte = (is_q5 ? q5.q : q4.q)[32 * (j / 2) + l];
    const int fifth = is_q5 ? (q5.q_high[l] >> j & 1) * 16 : 0;
    total += ((j % 2 == 0 ? byte & 15 : byte >> 4) + fifth) * q[l];
  }
  const float d = float_from_half(is_q5 ? q5.d : q4.d);
  const float dmin = float_from_half(is_q5 ? q5.dmin : q4.dmin);
  return std::fma(d, static_cast<float>(scale_min.scale * total),
                  -(dmin * static_cast<float>(scale_min.min * sum)));
}

// The documented order for one row and one token.
float textbook_row(const WeightView& weight, std::size_t r, std::span<const float> x) {
  if (!tensor_type_info(weight.type).is_quantized) {
    std::vector<float> row(weight.columns);
    dequantize_row(weight.type, weight.row(r), std::span<float>(row));
    return cpu_test::textbook_dot(x, row);
  }
  const std::size_t blocks = x.size() / 32;
  const std::size_t padded = (blocks + 7) / 8 * 8;
  std::vector<std::int8_t> q(x.size());
  std::vector<float> dx(blocks);
  std::vector<std::int32_t> sums(blocks);
  quantize_activation_row(x, q, dx, sums);
  std::vector<float> v(padded, 0.0f);
  for (std::size_t b = 0; b < blocks; ++b) {
    v[b] = textbook_v(weight.type, weight.row(r), b, q.data() + 32 * b, sums[b]);
  }
  dx.resize(padded, 0.0f);
  float y = 0.0f;
  for (std::size_t s = 0; s < padded; s += 8) {
    float u[4];
    for (std::size_t p = 0; p < 4; ++p) {
      u[p] = std::fma(dx[s + 2 * p + 1], v[s + 2 * p + 1], dx[s + 2 * p] * v[s + 2 * p]);
    }
    y += (u[0] + u[1]) + (u[2] + u[3]);
  }
  return y;
}

// 17 rows, each with something that quantization may get wrong.
Matrix<float> corner_activations(std::size_t columns, unsigned seed) {
  Matrix<float> x = cpu_test::random_matrix(17, columns, seed);
  std::fill(x.row(1).begin(), x.row(1).end(), 0.0f);
  for (std::size_t c = 0; c < columns; ++c) {
    const auto step = static_cast<float>(c % 200);
    x(2, c) = c % 32 == 0 ? 127.0f : step / 2.0f - 50.0f;       // d = 1, exact ties
    x(3, c) = c % 32 == 5 ? -9.0f : std::fabs(x(3, c)) / 4.0f;  // the largest is negative
    x(4, c) *= 0x1p-140f;                                       // subnormal
    x(5, c) = (c % 2 == 0 ? 1.0f : -1.0f) * 0x1p-149f * static_cast<float>(c % 300);
    x(6, c) *= 1e36f;
    x(7, c) = c % 32 == 3 ? 26.0f * x(7, c) : x(7, c);
    x(8, c) = c / 32 % 2 == 0 ? 0.0f : x(8, c);
    x(9, c) = -1.0f;
    x(10, c) = 1.0f;
    x(11, c) = c % 2 == 0 ? -0.0f : 0.0f;
  }
  x(12, columns / 2) = std::numeric_limits<float>::max();
  x(13, columns - 1) = 1e-30f;
  return x;
}

void expect_textbook(TensorType type, std::size_t columns) {
  const StoredWeights weights = cpu_test::random_weights(type, 33, columns, Blocks::kCorners, 7);
  const Matrix<float> x = corner_activations(columns, 11);
  Matrix<float> expected(17, 33);
  for (std::size_t t = 0; t < 17; ++t) {
    for (std::size_t r = 0; r < 33; ++r) expected(t, r) = textbook_row(weights.view, r, x.row(t));
  }
  // Zeros and NaN would make the comparison empty.
  const auto telling = std::count_if(expected.flat().begin(), expected.flat().end(),
                                     [](float y) { return std::isfinite(y) && y != 0.0f; });
  ASSERT_GT(telling, 17 * 33 / 4);
  for (const cpu::Context& context : cpu_test::all_contexts()) {
    for (const std::size_t rows : kRowCounts) {
      for (const std::size_t tokens : kTokenCounts) {
        WeightView weight = weights.view;
        weight.rows = rows;
        // The last tokens, so that every token meets every place in a batch.
        const std::size_t first = 17 - tokens;
        const MatrixView<const float> input(x.data() + first * columns, tokens, columns);
        Matrix<float> y(tokens, rows);
        cpu::matmul(context, weight, input, y.view());
        for (std::size_t t = 0; t < tokens; ++t) {
          ASSERT_TRUE(cpu_test::same_bits(y.row(t), expected.row(first + t).first(rows)))
              << tensor_type_info(type).name << " " << columns << " columns, token " << first + t
              << " of " << tokens << ", " << cpu_test::describe(context);
        }
      }
    }
  }
}

TEST(CpuMatmul, QuantizedRowsFollowTheDocumentedOrderBitForBit) {
  for (const TensorType type : kQuantizedTypes) {
    for (const std::size_t columns : {256, 512, 2304}) expect_textbook(type, columns);
  }
}

TEST(CpuMatmul, RowsOfQ8ThatEndInsideASuperBlockCountTheRestAsZero) {
  for (const std::size_t columns : {32, 96, 288}) expect_textbook(TensorType::kQ8_0, columns);
}

TEST(CpuMatmul, FloatRowsFollowTheDocumentedOrderBitForBit) {
  for (const TensorType type : kFloatTypes) {
    for (const std::size_t columns : {1, 31, 32, 96, 128, 130, 257, 512}) {
      expect_textbook(type, columns);
    }
  }
}

TEST(CpuMatmul, MatchesAHandComputedQ8Row) {
  BlockQ8_0 block = {};
  block.d = 0x3800;  // 0.5
  block.q[0] = 2;
  block.q[1] = -128;
  block.q[31] = 10;
  const WeightView weight = {TensorType::kQ8_0, 1, 32, reinterpret_cast<const std::byte*>(&block)};
  Matrix<float> x(1, 32);
  x(0, 0) = 254.0f;  // d = 2, q = 127
  x(0, 1) = -2.0f;   // q = -1
  x(0, 31) = 5.0f;   // 2.5 rounds to the even 2
  // 2 * (0.5 * (2 * 127 + 128 + 20)) = 402
  for (const cpu::Context& context : cpu_test::all_contexts()) {
    Matrix<float> y(1, 1);
    cpu::matmul(context, weight, x.view(), y.view());
    EXPECT_EQ(y(0, 0), 402.0f) << cpu_test::describe(context);
  }
}

TEST(CpuMatmul, MatchesAHandComputedQ4Row) {
  BlockQ4K block = {};
  block.d = 0x3c00;     // 1
  block.dmin = 0x4000;  // 2
  ScaleMin pairs[8] = {};
  pairs[0] = {3, 1};
  pairs[7] = {63, 63};
  pack_scale_min(pairs, block.scales);
  block.q[0] = 0x05;    // element 0 is 5
  block.q[127] = 0xf0;  // element 255 is 15
  const WeightView weight = {TensorType::kQ4_K, 1, 256, reinterpret_cast<const std::byte*>(&block)};
  Matrix<float> x(1, 256);
  x(0, 0) = 127.0f;
  x(0, 255) = -127.0f;
  // Elements: 3 * 5 - 2 * 1 = 13 and 63 * 15 - 2 * 63 = 819; 127 * (13 - 819).
  for (const cpu::Context& context : cpu_test::all_contexts()) {
    Matrix<float> y(1, 1);
    cpu::matmul(context, weight, x.view(), y.view());
    EXPECT_EQ(y(0, 0), -102362.0f) << cpu_test::describe(context);
  }
}

TEST(CpuMatmul, MatchesAHandComputedFloatProduct) {
  const std::vector<float> values = {1.0f, 2.0f, -3.0f, 0.5f, 0.0f, 4.0f};
  const WeightView weight = {TensorType::kF32, 2, 3,
                             reinterpret_cast<const std::byte*>(values.data())};
  const Matrix<float> x(2, 3, {1.0f, 1.0f, 1.0f, 2.0f, 0.0f, -1.0f});
  for (const cpu::Context& context : cpu_test::all_contexts()) {
    Matrix<float> y(2, 2);
    cpu::matmul(context, weight, x.view(), y.view());
    EXPECT_TRUE(cpu_test::same_bits(y.flat(), std::vector<float>{0.0f, 4.5f, 5.0f, -3.0f}))
        << cpu_test::describe(context);
  }
}

TEST(CpuMatmul, ATokenThatHoldsNaNOrInfGivesNaNAndLeavesTheOthers) {
  for (const TensorType type : kQuantizedTypes) {
    const StoredWeights weights = cpu_test::random_weights(type, 9, 512, Blocks::kPlain, 3);
    for (const float poison : {std::nanf(""), -std::nanf(""), INFINITY, -INFINITY}) {
      for (const std::size_t at : {0, 31, 300, 511}) {
        Matrix<float> x = cpu_test::random_matrix(5, 512, 5);
        for (const cpu::Context& context : cpu_test::all_contexts()) {
          Matrix<float> clean(5, 9);
          Matrix<float> y(5, 9);
          const float kept = x(2, at);
          cpu::matmul(context, weights.view, x.view(), clean.view());
          x(2, at) = poison;
          cpu::matmul(context, weights.view, x.view(), y.view());
          x(2, at) = kept;
          for (std::size_t t = 0; t < 5; ++t) {
            if (t == 2) {
              for (const float value : y.row(t)) EXPECT_TRUE(std::isnan(value));
            } else {
              EXPECT_TRUE(cpu_test::same_bits(y.row(t), clean.row(t)));
            }
          }
        }
      }
    }
  }
}

TEST(CpuMatmul, IsCloseToTheFloat64OracleThatEmulatesItsActivations) {
  for (const auto types :
       {std::span<const TensorType>(kQuantizedTypes), std::span<const TensorType>(kFloatTypes)}) {
    for (const TensorType type : types) {
      const StoredWeights weights = cpu_test::random_weights(type, 33, 2304, Blocks::kPlain, 13);
      const Matrix<float> x = cpu_test::random_matrix(9, 2304, 17);
      const Matrix<double> wide = cpu_test::widen(x.view());
      Matrix<double> expected(9, 33);
      oracle::matmul(weights.view, wide.view(), ActivationScheme::kEmulatedInt8, expected.view());
      for (const cpu::Context& context : cpu_test::all_contexts()) {
        Matrix<float> y(9, 33);
        cpu::matmul(context, weights.view, x.view(), y.view());
        const double error = cpu_test::relative_l2(y.flat(), expected.flat());
        EXPECT_FALSE(!(error <= 5e-6))
            << tensor_type_info(type).name << ": " << error << ", " << cpu_test::describe(context);
      }
    }
  }
}

TEST(CpuMatmul, TakesNoTokensAndNoRows) {
  const StoredWeights weights =
      cpu_test::random_weights(TensorType::kQ4_K, 3, 256, Blocks::kPlain, 1);
  const StoredWeights none = cpu_test::random_weights(TensorType::kQ4_K, 0, 256, Blocks::kPlain, 1);
  for (const cpu::Context& context : cpu_test::all_contexts()) {
    Matrix<float> no_tokens(0, 3);
    cpu::matmul(context, weights.view, Matrix<float>(0, 256).view(), no_tokens.view());
    Matrix<float> no_rows(2, 0);
    cpu::matmul(context, none.view, Matrix<float>(2, 256).view(), no_rows.view());
    EXPECT_EQ(no_tokens.size() + no_rows.size(), 0u);
  }
}

TEST(CpuQuantizeActivations, MatchesTheDefinitionBitForBit) {
  for (const std::size_t columns : {32, 96, 256, 2304}) {
    Matrix<float> x = corner_activations(columns, 23);
    x(14, 0) = INFINITY;
    x(15, columns - 1) = -std::nanf("");
    QuantizedActivations expected;
    expected.resize(x.rows(), columns);
    for (std::size_t t = 0; t < x.rows(); ++t) {
      quantize_activation_row(x.row(t), std::span(expected.q).subspan(t * columns, columns),
                              std::span(expected.d).subspan(t * columns / 32, columns / 32),
                              std::span(expected.sums).subspan(t * columns / 32, columns / 32));
    }
    for (const cpu::Context& context : cpu_test::all_contexts()) {
      QuantizedActivations found;
      cpu::quantize_activations(context, x.view(), &found);
      EXPECT_EQ(found.q, expected.q) << cpu_test::describe(context);
      EXPECT_EQ(found.sums, expected.sums) << cpu_test::describe(context);
      EXPECT_TRUE(cpu_test::same_bits(found.d, expected.d)) << cpu_test::describe(context);
    }
  }
}

TEST(CpuQuantizeActivations, RoundsTiesToEvenAndKeepsTheSignOfTheLargest) {
  Matrix<float> x(1, 32);
  const std::vector<float> values = {-127.0f, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 126.5f};
  const std::vector<std::int8_t> rounded = {-127, 0, 2, 2, 0, -2, -2, 126};
  std::copy(values.begin(), values.end(), x.flat().begin());
  for (const cpu::Context& context : cpu_test::all_contexts()) {
    QuantizedActivations found;
    cpu::quantize_activations(context, x.view(), &found);
    EXPECT_EQ(std::vector<std::int8_t>(found.q.begin(), found.q.begin() + 8), rounded);
    EXPECT_EQ(found.d[0], 1.0f);
    EXPECT_EQ(found.sums[0], -1);
  }
}

}  // namespace
}  // namespace refute
