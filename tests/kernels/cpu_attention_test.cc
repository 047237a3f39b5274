#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "kernels/attention.h"
#include "kernels/math.h"
#include "tests/kernels/cpu_support.h"

namespace refute {
namespace {

Matrix<std::uint16_t> halves(MatrixView<const float> x) {
  Matrix<std::uint16_t> rounded(x.rows, x.columns);
  for (std::size_t i = 0; i < x.size(); ++i) rounded.flat()[i] = half_from_float(x.data[i]);
  return rounded;
}

Matrix<double> widen_halves(MatrixView<const std::uint16_t> x) {
  Matrix<double> wide(x.rows, x.columns);
  for (std::size_t i = 0; i < x.size(); ++i) {
    wide.flat()[i] = static_cast<double>(float_from_half(x.data[i]));
  }
  return wide;
}

struct Cache {
  Matrix<std::uint16_t> k, v;
};

Cache random_cache(const AttentionShape& shape, std::size_t length, unsigned seed) {
  return {halves(cpu_test::random_matrix(length, shape.key_value_size(), seed).view()),
          halves(cpu_test::random_matrix(length, shape.key_value_size(), seed + 1).view())};
}

// The dot product in 16 lanes.
float score_dot(std::span<const float> q, std::span<const std::uint16_t> key) {
  std::array<float, 16> lanes{};
  for (std::size_t c = 0; c < q.size(); ++c) {
    lanes[c % 16] = std::fma(float_from_half(key[c]), q[c], lanes[c % 16]);
  }
  for (std::size_t h = 8; h > 0; h /= 2) {
    for (std::size_t i = 0; i < h; ++i) lanes[i] += lanes[i + h];
  }
  return lanes[0];
}

// One chunk of positions from `first` on.
struct Chunk {
  float max = -std::numeric_limits<float>::max();
  float sum = 0.0f;
  std::vector<float> y;

  Chunk(std::span<const float> q, MatrixView<const std::uint16_t> k,
        MatrixView<const std::uint16_t> v, std::size_t offset, std::size_t first, std::size_t end)
      : y(q.size()) {
    const std::size_t head_dim = q.size();
    const float scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
    std::array<float, 128> term{};
    for (std::size_t s = first; s < end; ++s) {
      term[s - first] = score_dot(q, k.row(s).subspan(offset, head_dim)) * scale;
      max = std::max(max, term[s - first]);
    }
    for (std::size_t s = first; s < end; ++s) term[s - first] = exp32(term[s - first] - max);
    sum = cpu_test::halving_tree(term);
    for (std::size_t i = 0; i < head_dim; ++i) {
      for (std::size_t begin = first; begin < end; begin += 32) {
        float z = 0.0f;
        for (std::size_t s = begin; s < std::min(begin + 32, end); ++s) {
          z = std::fma(term[s - first], float_from_half(v.row(s)[offset + i]), z);
        }
        y[i] = begin == first ? z : y[i] + z;
      }
    }
  }
};

// The documented order, one head of one token.
std::vector<float> textbook_head(std::span<const float> q, MatrixView<const std::uint16_t> k,
                                 MatrixView<const std::uint16_t> v, std::size_t offset,
                                 std::size_t kv_len) {
  Chunk all(q, k, v, offset, 0, std::min<std::size_t>(128, kv_len));
  for (std::size_t first = 128; first < kv_len; first += 128) {
    const Chunk next(q, k, v, offset, first, std::min(first + 128, kv_len));
    const float max = std::max(all.max, next.max);
    const float a = exp32(all.max - max);
    const float b = exp32(next.max - max);
    all.max = max;
    all.sum = std::fma(all.sum, a, next.sum * b);
    for (std::size_t i = 0; i < q.size(); ++i) all.y[i] = std::fma(all.y[i], a, next.y[i] * b);
  }
  for (float& value : all.y) value /= all.sum;
  return all.y;
}

TEST(CpuAttention, FollowsTheDocumentedOrderBitForBit) {
  for (const std::size_t head_dim : {8, 24, 32, 64, 80, 128, 160}) {
    const AttentionShape shape = {4, 2, head_dim};
    for (const std::size_t first : {0, 1, 15, 31, 126, 127, 128, 300}) {
      const std::size_t tokens = 3;
      const Cache cache = random_cache(shape, first + tokens + 2, 5);
      const Matrix<float> q = cpu_test::random_matrix(tokens, shape.query_size(), 9);
      Matrix<float> expected(tokens, shape.query_size());
      for (std::size_t t = 0; t < tokens; ++t) {
        for (std::size_t h = 0; h < 4; ++h) {
          const std::vector<float> head =
              textbook_head(q.row(t).subspan(h * head_dim, head_dim), cache.k.view(),
                            cache.v.view(), h / 2 * head_dim, first + t + 1);
          std::copy(head.begin(), head.end(),
                    expected.row(t).begin() + static_cast<std::ptrdiff_t>(h * head_dim));
        }
      }
      for (const cpu::Context& context : cpu_test::all_contexts()) {
        Matrix<float> y(tokens, shape.query_size());
        cpu::attention(context, shape, q.view(), cache.k.view(), cache.v.view(), first, y.view());
        ASSERT_TRUE(cpu_test::same_bits(y.flat(), expected.flat()))
            << "head_dim " << head_dim << ", first " << first << ", "
            << cpu_test::describe(context);
      }
    }
  }
}

TEST(CpuAttention, ALongCacheFollowsTheDocumentedOrder) {
  const AttentionShape shape = {2, 1, 128};
  constexpr std::size_t kLength = 20011;
  const Cache cache = random_cache(shape, kLength, 21);
  const Matrix<float> q = cpu_test::random_matrix(1, shape.query_size(), 22);
  const std::vector<float> second =
      textbook_head(q.row(0).subspan(128), cache.k.view(), cache.v.view(), 0, kLength);
  for (const cpu::Context& context : cpu_test::all_contexts()) {
    Matrix<float> y(1, shape.query_size());
    cpu::attention(context, shape, q.view(), cache.k.view(), cache.v.view(), kLength - 1, y.view());
    EXPECT_TRUE(cpu_test::same_bits(y.row(0).subspan(128), second)) << cpu_test::describe(context);
  }
}

TEST(CpuAttention, AnyChunkingOfAPrefillGivesTheSameBits) {
  const AttentionShape shape = {4, 1, 64};
  constexpr std::size_t kTokens = 33;
  const Cache cache = random_cache(shape, kTokens, 31);
  const Matrix<float> q = cpu_test::random_matrix(kTokens, shape.query_size(), 32);
  for (const cpu::Context& context : cpu_test::all_contexts()) {
    Matrix<float> whole(kTokens, shape.query_size());
    cpu::attention(context, shape, q.view(), cache.k.view(), cache.v.view(), 0, whole.view());
    for (const std::size_t chunk : {1, 7, 32}) {
      Matrix<float> y(kTokens, shape.query_size());
      for (std::size_t first = 0; first < kTokens; first += chunk) {
        const std::size_t rows = std::min(chunk, kTokens - first);
        const std::size_t at = first * shape.query_size();
        cpu::attention(context, shape, {q.data() + at, rows, shape.query_size()}, cache.k.view(),
                       cache.v.view(), first, {y.data() + at, rows, shape.query_size()});
      }
      EXPECT_TRUE(cpu_test::same_bits(y.flat(), whole.flat()))
          << "chunks of " << chunk << ", " << cpu_test::describe(context);
    }
  }
}

TEST(CpuAttention, SeesNothingPastItsPosition) {
  const AttentionShape shape = {2, 2, 32};
  Cache cache = random_cache(shape, 10, 41);
  const Matrix<float> q = cpu_test::random_matrix(2, shape.query_size(), 42);
  for (const cpu::Context& context : cpu_test::all_contexts()) {
    Matrix<float> clean(1, shape.query_size());
    const MatrixView<const float> one(q.data(), 1, shape.query_size());
    cpu::attention(context, shape, one, cache.k.view(), cache.v.view(), 4, clean.view());
    Cache poisoned = cache;
    for (std::size_t s = 5; s < 10; ++s) {
      for (std::uint16_t& half : poisoned.k.row(s)) half = 0x7e00;
      for (std::uint16_t& half : poisoned.v.row(s)) half = 0x7e00;
    }
    Matrix<float> y(1, shape.query_size());
    cpu::attention(context, shape, one, poisoned.k.view(), poisoned.v.view(), 4, y.view());
    EXPECT_TRUE(cpu_test::same_bits(y.flat(), clean.flat()));
    // The control: one position further the poison is seen.
    cpu::attention(context, shape, one, poisoned.k.view(), poisoned.v.view(), 5, y.view());
    for (const float value : y.flat()) EXPECT_TRUE(std::isnan(value));
  }
}

TEST(CpuAttention, AChunkOfScoresThatOverflowWeighsNothing) {
  const AttentionShape shape = {1, 1, 2};
  Matrix<std::uint16_t> k(200, 2);
  Matrix<std::uint16_t> v(200, 2);
  for (std::size_t s = 0; s < 200; ++s) {
    const bool overflows = s < 128;
    k.row(s)[0] = half_from_float(overflows ? -60000.0f : 0.0f);
    v.row(s)[0] = half_from_float(overflows ? 7.0f : 3.0f);
    v.row(s)[1] = half_from_float(-2.0f);
  }
  const Matrix<float> q(1, 2, {1e38f, 0.0f});
  for (const cpu::Context& context : cpu_test::all_contexts()) {
    Matrix<float> y(1, 2);
    cpu::attention(context, shape, q.view(), k.view(), v.view(), 199, y.view());
    EXPECT_EQ(y(0, 0), 3.0f) << cpu_test::describe(context);
    EXPECT_EQ(y(0, 1), -2.0f) << cpu_test::describe(context);
  }
}

TEST(CpuAttention, OneCachedTokenGivesItsValueAndEqualKeysGiveTheMean) {
  const AttentionShape shape = {2, 1, 2};
  const Matrix<float> q(1, 4, {1.0f, 0.0f, 0.0f, 1.0f});
  const Matrix<std::uint16_t> k = halves(Matrix<float>(2, 2, {1.0f, 2.0f, 1.0f, 2.0f}).view());
  const Matrix<std::uint16_t> v = halves(Matrix<float>(2, 2, {3.0f, -1.0f, 5.0f, 2.0f}).view());
  for (const cpu::Context& context : cpu_test::all_contexts()) {
    Matrix<float> y(1, 4);
    cpu::attention(context, shape, q.view(), k.view(), v.view(), 0, y.view());
    EXPECT_TRUE(cpu_test::same_bits(y.flat(), std::vector<float>{3.0f, -1.0f, 3.0f, -1.0f}));
    cpu::attention(context, shape, q.view(), k.view(), v.view(), 1, y.view());
    EXPECT_TRUE(cpu_test::same_bits(y.flat(), std::vector<float>{4.0f, 0.5f, 4.0f, 0.5f}));
  }
}

TEST(CpuAttention, IsCloseToTheFloat64OracleOnTheSameCache) {
  const AttentionShape shape = {8, 2, 128};
  const Cache cache = random_cache(shape, 400, 51);
  const Matrix<float> q = cpu_test::random_matrix(100, shape.query_size(), 52);
  Matrix<double> expected(100, shape.query_size());
  oracle::attention(shape, cpu_test::widen(q.view()).view(), widen_halves(cache.k.view()).view(),
                    widen_halves(cache.v.view()).view(), 300, expected.view());
  for (const cpu::Isa isa : cpu::supported_isas()) {
    const cpu::Context context = cpu_test::make_context(isa, 2);
    Matrix<float> y(100, shape.query_size());
    cpu::attention(context, shape, q.view(), cache.k.view(), cache.v.view(), 300, y.view());
    const double error = cpu_test::relative_l2(y.flat(), expected.flat());
    EXPECT_FALSE(!(error <= 5e-6)) << error << ", " << cpu_test::describe(context);
  }
}

}  // namespace
}  // namespace refute
