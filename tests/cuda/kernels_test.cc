// Every op on the GPU against the CPU's, bit for bit: all types, corners of their blocks, shapes
// that are no multiple of a tile.
#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "tests/cuda/support.h"
#include "tests/kernels/cpu_support.h"

namespace refute {
namespace {

using cuda_test::random_matrix;
using cuda_test::random_vector;
using cuda_test::same_bits;

class CudaKernels : public cuda_test::CudaTest {};

struct Shape {
  std::size_t tokens, rows, columns;
};

std::vector<Shape> shapes_for(TensorType type) {
  // One row, tails of a tile of 8 rows and of 8 tokens, several super-blocks, many rows.
  std::vector<Shape> shapes = {{1, 1, 256},  {1, 8, 256},  {2, 7, 512},     {7, 9, 768},
                               {8, 64, 256}, {9, 65, 512}, {17, 100, 2304}, {1, 520, 2048}};
  const std::size_t block = tensor_type_info(type).block_size;
  if (block == 32) {
    shapes.insert(shapes.end(), {{1, 3, 32}, {3, 17, 96}, {2, 8, 288}, {9, 16, 992}});
  }
  if (block == 1) {
    shapes.insert(shapes.end(),
                  {{1, 1, 1}, {2, 3, 5}, {1, 9, 127}, {3, 8, 129}, {2, 5, 300}, {1, 4, 4097}});
  }
  return shapes;
}

TEST_F(CudaKernels, MatmulOfEveryTypeEqualsTheCpus) {
  for (const TensorTypeInfo& info : tensor_types()) {
    if (!info.is_weight) continue;
    unsigned seed = 10;
    for (const Shape& shape : shapes_for(info.type)) {
      for (const auto blocks : {cpu_test::Blocks::kPlain, cpu_test::Blocks::kCorners}) {
        const auto weights =
            cpu_test::random_weights(info.type, shape.rows, shape.columns, blocks, ++seed);
        const Matrix<double> x = random_matrix(shape.tokens, shape.columns, ++seed);
        EXPECT_TRUE(
            same_bits(cuda_->matmul(weights.view, x.view()), cpu_->matmul(weights.view, x.view())))
            << info.name << " " << shape.tokens << " x " << shape.rows << " x " << shape.columns;
      }
    }
  }
}

// Scales from subnormal to huge, zeros, a block of one value, exact halves, amax negative, NaN.
TEST_F(CudaKernels, ActivationCornersEqualTheCpus) {
  constexpr std::size_t kColumns = 512;
  Matrix<double> x(10, kColumns);
  for (std::size_t c = 0; c < kColumns; ++c) {
    const auto step = static_cast<double>(c % 32);
    x(1, c) = 1.0;
    x(2, c) = -3.5;
    x(3, c) = (step - 16.0) * 0.5;                    // Quotients at .5
    x(4, c) = static_cast<double>(0x1p-149f) * step;  // Subnormal
    x(5, c) = c % 32 == 7 ? -127.0 : step - 15.5;     // Halves of d = 1
    x(6, c) = c == 100 ? 26.0 : 0.01 * step;          // An outlier
    x(7, c) = static_cast<double>(3.0e38f) * (c % 2 == 0 ? 1.0 : -1.0);
    x(8, c) = c % 64 < 32 ? 0.0 : static_cast<double>(-0.0f);
    x(9, c) = c == 300 ? std::numeric_limits<double>::quiet_NaN() : step;
  }
  for (const TensorType type :
       {TensorType::kQ8_0, TensorType::kQ4_K, TensorType::kQ5_K, TensorType::kQ6_K}) {
    const auto weights = cpu_test::random_weights(type, 19, kColumns, cpu_test::Blocks::kPlain, 77);
    EXPECT_TRUE(
        same_bits(cuda_->matmul(weights.view, x.view()), cpu_->matmul(weights.view, x.view())))
        << tensor_type_info(type).name;
  }
}

TEST_F(CudaKernels, ZeroRowsGiveZeroRows) {
  const auto weights =
      cpu_test::random_weights(TensorType::kQ4_K, 16, 256, cpu_test::Blocks::kPlain, 3);
  const auto y = cuda_->matmul(weights.view, Matrix<double>(0, 256).view());
  ASSERT_TRUE(y) << y.error().message();
  EXPECT_EQ(y->rows(), 0u);
  EXPECT_EQ(y->columns(), 16u);
}

TEST_F(CudaKernels, EmbeddingEqualsTheCpus) {
  for (const TensorTypeInfo& info : tensor_types()) {
    if (!info.is_weight) continue;
    for (const std::size_t columns : {std::size_t{256}, std::size_t{768}}) {
      const auto weights =
          cpu_test::random_weights(info.type, 21, columns, cpu_test::Blocks::kCorners, 5);
      const std::vector<std::int32_t> tokens = {0, 20, 7, 8, 15, 16, 7};
      EXPECT_TRUE(same_bits(cuda_->embed(weights.view, tokens), cpu_->embed(weights.view, tokens)))
          << info.name << " " << columns;
    }
  }
  const auto narrow =
      cpu_test::random_weights(TensorType::kQ8_0, 9, 96, cpu_test::Blocks::kPlain, 6);
  const std::vector<std::int32_t> tokens = {8, 0};
  EXPECT_TRUE(same_bits(cuda_->embed(narrow.view, tokens), cpu_->embed(narrow.view, tokens)));
}

TEST_F(CudaKernels, RmsNormEqualsTheCpus) {
  for (const std::size_t size : {1, 5, 64, 127, 128, 129, 300, 2048, 4099}) {
    const Matrix<double> x = random_matrix(3, size, static_cast<unsigned>(size));
    const std::vector<float> weight = random_vector(size, 9);
    EXPECT_TRUE(same_bits(cuda_->rms_norm(x.view(), weight, 1e-6f),
                          cpu_->rms_norm(x.view(), weight, 1e-6f)))
        << size;
    const Matrix<double> small = random_matrix(2, size, 4, 1e-4f);
    EXPECT_TRUE(same_bits(cuda_->rms_norm(small.view(), weight, 1e-6f),
                          cpu_->rms_norm(small.view(), weight, 1e-6f)))
        << size;
  }
}

TEST_F(CudaKernels, RopeEqualsTheCpus) {
  for (const std::size_t head_dim : {2, 20, 64, 128}) {
    const RopeTable table(1e6, head_dim, 70);
    const Matrix<double> x = random_matrix(5, 3 * head_dim, 11);
    EXPECT_TRUE(same_bits(cuda_->rope(table, 3, 61, x.view()), cpu_->rope(table, 3, 61, x.view())))
        << head_dim;
  }
}

TEST_F(CudaKernels, AttentionEqualsTheCpus) {
  struct Case {
    AttentionShape shape;
    std::size_t first, tokens;
  };
  const std::vector<Case> cases = {
      {{1, 1, 2}, 0, 1},     {{4, 2, 64}, 0, 9},   {{8, 1, 128}, 5, 3},    {{4, 4, 20}, 3, 4},
      {{2, 1, 132}, 1, 2},   {{2, 2, 33}, 30, 5},  {{32, 4, 128}, 127, 2}, {{4, 2, 128}, 1000, 3},
      {{2, 1, 256}, 300, 1}, {{2, 1, 600}, 20, 2}, {{3, 1, 1024}, 6, 2},   {{2, 1, 64}, 6200, 20},
  };
  unsigned seed = 20;
  for (const Case& c : cases) {
    const std::size_t positions = c.first + c.tokens;
    const Matrix<double> q = random_matrix(c.tokens, c.shape.query_size(), ++seed, 2.0f);
    const Matrix<double> k = random_matrix(positions, c.shape.key_value_size(), ++seed);
    const Matrix<double> v = random_matrix(positions, c.shape.key_value_size(), ++seed);
    EXPECT_TRUE(same_bits(cuda_->attention(c.shape, q.view(), k.view(), v.view(), c.first),
                          cpu_->attention(c.shape, q.view(), k.view(), v.view(), c.first)))
        << c.shape.num_attention_heads << " heads of " << c.shape.head_dim << " from " << c.first;
  }
}

void expect_same_routing(const Result<Routing<double>>& found,
                         const Result<Routing<double>>& expected) {
  ASSERT_EQ(found.has_value(), expected.has_value());
  if (!expected) {
    EXPECT_EQ(found.error().kind, expected.error().kind);
    EXPECT_EQ(found.error().where, expected.error().where);
    return;
  }
  const auto ids = [](const Routing<double>& routing) {
    return std::vector<std::int32_t>(routing.ids.flat().begin(), routing.ids.flat().end());
  };
  EXPECT_EQ(ids(*found), ids(*expected));
  EXPECT_TRUE(same_bits(found->weights, expected->weights));
}

TEST_F(CudaKernels, RoutingEqualsTheCpus) {
  unsigned seed = 40;
  for (const std::size_t experts : {1, 2, 5, 32, 33, 128, 129, 300}) {
    for (const std::size_t k : {std::size_t{1}, std::size_t{2}, std::size_t{8}, experts}) {
      if (k > experts) continue;
      Matrix<double> logits = random_matrix(4, experts, ++seed, 3.0f);
      // A row of ties, one of zeros of both signs.
      for (std::size_t e = 0; e < experts; ++e) {
        logits(1, e) = static_cast<double>(e % 3);
        logits(2, e) = e % 2 == 0 ? -0.0 : 0.0;
      }
      for (const bool norm : {true, false}) {
        expect_same_routing(cuda_->route(logits.view(), k, norm),
                            cpu_->route(logits.view(), k, norm));
      }
    }
  }
}

TEST_F(CudaKernels, RoutingRejectsWhatTheCpuRejects) {
  for (const double bad :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(),
        -std::numeric_limits<double>::infinity()}) {
    Matrix<double> logits = random_matrix(3, 40, 8);
    logits(2, 37) = bad;
    logits(1, 39) = bad;
    expect_same_routing(cuda_->route(logits.view(), 4, true), cpu_->route(logits.view(), 4, true));
    EXPECT_FALSE(cuda_->route(logits.view(), 4, true));
  }
  const Matrix<double> logits = random_matrix(1, 4, 8);
  expect_same_routing(cuda_->route(logits.view(), 5, true), cpu_->route(logits.view(), 5, true));
  expect_same_routing(cuda_->route(logits.view(), 0, true), cpu_->route(logits.view(), 0, true));
}

TEST_F(CudaKernels, SwigluEqualsTheCpusOverTheWholeRange) {
  Matrix<double> gate(1, 4096);
  for (std::size_t i = 0; i < 4096; ++i) {
    gate(0, i) = static_cast<double>(-110.0f + 0.055f * static_cast<float>(i));
  }
  gate(0, 0) = static_cast<double>(-3.0e38f);
  gate(0, 1) = -0.0;
  const Matrix<double> up = random_matrix(1, 4096, 12);
  EXPECT_TRUE(
      same_bits(cuda_->swiglu(gate.view(), up.view()), cpu_->swiglu(gate.view(), up.view())));
}

TEST_F(CudaKernels, CombineAndAddEqualTheCpus) {
  for (const std::size_t size : {1, 31, 300}) {
    const Matrix<double> outs = random_matrix(5 * 3, size, 13);
    const Matrix<double> weights = random_matrix(5, 3, 14);
    EXPECT_TRUE(same_bits(cuda_->combine(outs.view(), weights.view()),
                          cpu_->combine(outs.view(), weights.view())));
    EXPECT_TRUE(
        same_bits(cuda_->add(outs.view(), outs.view()), cpu_->add(outs.view(), outs.view())));
  }
}

TEST_F(CudaKernels, BandwidthIsThatOfADevice) {
  const auto bandwidth = cuda_->measure_read_bandwidth();
  ASSERT_TRUE(bandwidth);
  EXPECT_GT(bandwidth->median, 1e11);
  EXPECT_GE(bandwidth->best, bandwidth->median);
  EXPECT_LT(bandwidth->best, 2e13);
}

}  // namespace
}  // namespace refute
