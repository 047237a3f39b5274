// Prefill's two attentions: the one on the tensor cores held to class B against the float64 oracle
// op on the same inputs, and the exact one beside it, which shows that the gates can be met in
// float32. That the exact one gives the CPU's bits is prefill_bench's and forward_test's.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <vector>

#include "falsifiers/metrics.h"
#include "kernels/attention.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/prefill_ops.h"
#include "kernels/quant/half.h"
#include "tests/cuda/support.h"

namespace refute {
namespace {

// What one call reads. Rows of q: tokens; of k and v: positions, the call's own last.
struct Case {
  AttentionShape shape{8, 1, 128};
  std::size_t first_position = 0;
  Matrix<double> q, k, v;

  std::size_t num_tokens() const { return q.rows(); }
};

double rounded_to_half(double value) {
  return static_cast<double>(float_from_half(half_from_float(static_cast<float>(value))));
}

Case make_case(std::size_t first_position, std::size_t num_tokens, unsigned seed,
               float q_deviation = 2.0f, float k_deviation = 1.0f,
               AttentionShape shape = {8, 1, 128}) {
  Case made;
  made.shape = shape;
  made.first_position = first_position;
  const std::size_t positions = first_position + num_tokens;
  made.q = cuda_test::random_matrix(num_tokens, shape.query_size(), seed, q_deviation);
  made.k = cuda_test::random_matrix(positions, shape.key_value_size(), seed + 1, k_deviation);
  made.v = cuda_test::random_matrix(positions, shape.key_value_size(), seed + 2);
  for (double& value : made.k.flat()) value = rounded_to_half(value);
  for (double& value : made.v.flat()) value = rounded_to_half(value);
  return made;
}

using Attend = void (*)(const cuda::Stream&, const AttentionShape&, const float*,
                        const std::uint16_t*, const std::uint16_t*, const std::int32_t*,
                        std::size_t, float*, const cuda::TensorActivations&);

struct Attended {
  Matrix<double> y;
  std::vector<std::int8_t> q;
  std::vector<cuda::BlockScale> scales;

  bool has_bits_of(const Attended& other) const {
    return y.size() == other.y.size() && q.size() == other.q.size() && y.size() > 0 &&
           std::memcmp(y.data(), other.y.data(), y.size() * sizeof(double)) == 0 &&
           std::memcmp(q.data(), other.q.data(), q.size()) == 0 &&
           std::memcmp(scales.data(), other.scales.data(),
                       scales.size() * sizeof(cuda::BlockScale)) == 0;
  }
};

class CudaAttention : public cuda_test::CudaContextTest {
 protected:
  template <typename T>
  cuda::DeviceBuffer<T> buffer(std::size_t size) {
    auto allocated = cuda::DeviceBuffer<T>::allocate(size, "test");
    EXPECT_TRUE(allocated) << allocated.error().message();
    CUDA_CHECK(cudaMemsetAsync(allocated->data(), 0xFF, allocated->bytes(), context_->stream()));
    return *std::move(allocated);
  }
  template <typename T>
  cuda::DeviceBuffer<T> uploaded(const std::vector<T>& values, std::size_t padding = 0) {
    auto on_device = buffer<T>(values.size() + padding);
    context_->to_device(values.data(), values.size(), on_device.data());
    return on_device;
  }

  // Memory that no result may depend on is NaN: outputs, and the cache behind the last position.
  Attended run(Attend attend, const Case& given) {
    const auto half = [&](const Matrix<double>& rows) {
      std::vector<std::uint16_t> halves(rows.size());
      std::ranges::transform(rows.flat(), halves.begin(), [](double value) {
        return half_from_float(static_cast<float>(value));
      });
      return uploaded(halves, 200 * given.shape.key_value_size());
    };
    std::vector<float> rounded(given.q.size());
    std::ranges::transform(given.q.flat(), rounded.begin(),
                           [](double value) { return static_cast<float>(value); });
    const auto q = uploaded(rounded);
    const auto k = half(given.k);
    const auto v = half(given.v);
    const auto position =
        uploaded(std::vector<std::int32_t>{static_cast<std::int32_t>(given.first_position)});
    auto y = buffer<float>(rounded.size());
    auto quantized = buffer<std::int8_t>(rounded.size());
    auto scales = buffer<cuda::BlockScale>(rounded.size() / 32);
    attend(*context_, given.shape, q.data(), k.data(), v.data(), position.data(),
           given.num_tokens(), y.data(),
           {quantized.data(), scales.data(), given.shape.query_size()});
    Attended attended;
    std::vector<float> on_host(rounded.size());
    context_->to_host(y.data(), on_host.size(), on_host.data());
    attended.y =
        Matrix<double>(given.q.rows(), given.q.columns(), {on_host.begin(), on_host.end()});
    attended.q.resize(rounded.size());
    context_->to_host(quantized.data(), attended.q.size(), attended.q.data());
    attended.scales.resize(rounded.size() / 32);
    context_->to_host(scales.data(), attended.scales.size(), attended.scales.data());

    // What is quantized is y, as the op alone quantizes it.
    auto q_again = buffer<std::int8_t>(rounded.size());
    auto scales_again = buffer<cuda::BlockScale>(rounded.size() / 32);
    cuda::tensor_quantize(*context_, y.data(), given.num_tokens(), given.shape.query_size(),
                          {q_again.data(), scales_again.data(), given.shape.query_size()});
    Attended again{attended.y, std::vector<std::int8_t>(rounded.size()),
                   std::vector<cuda::BlockScale>(rounded.size() / 32)};
    context_->to_host(q_again.data(), again.q.size(), again.q.data());
    context_->to_host(scales_again.data(), again.scales.size(), again.scales.data());
    EXPECT_TRUE(attended.has_bits_of(again));
    return attended;
  }

  // The largest of |y' - y| over 8 u (sqrt(n) sum p |v| + sqrt(head_dim) sum p |v - y| a[s]), where
  // a[s] = sum |q k[s]| / sqrt(head_dim): the bounds of both products, the scores' carried through
  // softmax to first order.
  static double elementwise_ratio(const Case& given, const Matrix<double>& expected,
                                  const Matrix<double>& found) {
    const std::size_t dim = given.shape.head_dim;
    const std::size_t group = given.shape.num_attention_heads / given.shape.num_key_value_heads;
    double worst = 0.0;
    for (std::size_t t = 0; t < given.num_tokens(); ++t) {
      const std::size_t seen = given.first_position + t + 1;
      for (std::size_t h = 0; h < given.shape.num_attention_heads; ++h) {
        const double* const q = given.q.row(t).data() + h * dim;
        const std::size_t g = h / group;
        std::vector<double> p(seen), a(seen);
        double max = -std::numeric_limits<double>::infinity();
        for (std::size_t s = 0; s < seen; ++s) {
          const double* const k = given.k.row(s).data() + g * dim;
          for (std::size_t c = 0; c < dim; ++c) {
            p[s] += q[c] * k[c];
            a[s] += std::abs(q[c] * k[c]);
          }
          p[s] /= std::sqrt(static_cast<double>(dim));
          a[s] /= std::sqrt(static_cast<double>(dim));
          max = std::max(max, p[s]);
        }
        double sum = 0.0;
        for (double& value : p) sum += value = std::exp(value - max);
        for (double& value : p) value /= sum;
        std::vector<double> bound(dim);
        for (std::size_t s = 0; s < seen; ++s) {
          if (p[s] == 0.0) continue;
          const double* const v = given.v.row(s).data() + g * dim;
          for (std::size_t c = 0; c < dim; ++c) {
            const double off = std::abs(v[c] - expected(t, h * dim + c));
            bound[c] += p[s] * (std::sqrt(static_cast<double>(seen)) * std::abs(v[c]) +
                                std::sqrt(static_cast<double>(dim)) * off * a[s]);
          }
        }
        for (std::size_t c = 0; c < dim; ++c) {
          const double error = std::abs(found(t, h * dim + c) - expected(t, h * dim + c));
          const double ratio = error / (8.0 * 0x1p-24 * bound[c]);
          if (!(ratio <= worst)) worst = ratio;
        }
      }
    }
    return worst;
  }

  static Matrix<double> oracle_of(const Case& given) {
    Matrix<double> y(given.q.rows(), given.q.columns());
    oracle::attention(given.shape, given.q.view(), given.k.view(), given.v.view(),
                      given.first_position, y.view());
    return y;
  }

  struct Kernel {
    const char* name;
    Attend attend;
  };
  // Those of the class B that the device has.
  static std::vector<Kernel> on_tensor_cores() {
    std::vector<Kernel> kernels = {{"mma", cuda::prefill_attention_mma}};
    if (cuda::has_wgmma()) kernels.push_back({"wgmma", cuda::prefill_attention_wgmma});
    return kernels;
  }

  enum class Gates { kAll, kElementwise };
  void expect_class_b(const std::string& what, Case given, Gates gates = Gates::kAll) {
    for (double& value : given.q.flat()) value = static_cast<double>(static_cast<float>(value));
    const Matrix<double> expected = oracle_of(given);
    std::vector<Kernel> kernels = on_tensor_cores();
    kernels.push_back({"exact", cuda::prefill_attention});
    for (const Kernel& kernel : kernels) {
      const Attended found = run(kernel.attend, given);
      const auto apart = compare(expected.view(), found.y.view());
      ASSERT_TRUE(apart) << what << ": " << apart.error().message();
      const double ratio = elementwise_ratio(given, expected, found.y);
      std::printf(
          "%-28s %-6s L2 %.1e, worst row %.1e, Linf/RMS %.1e, scale %.1e, 1 - cos %.1e, "
          "elements %.2f\n",
          what.c_str(), kernel.name, apart->relative_l2, apart->worst_row_relative_l2,
          apart->linf_over_rms, apart->scale_error, 1.0 - apart->worst_row_cosine, ratio);
      EXPECT_FALSE(!(ratio <= 1.0)) << what << " " << kernel.name << " " << ratio;
      if (gates == Gates::kElementwise) continue;
      EXPECT_FALSE(!(apart->relative_l2 <= 5e-6)) << what << " " << kernel.name;
      EXPECT_FALSE(!(apart->worst_row_relative_l2 <= 2e-5)) << what << " " << kernel.name;
      EXPECT_FALSE(!(apart->linf_over_rms <= 5e-5)) << what << " " << kernel.name;
      EXPECT_FALSE(!(apart->scale_error <= 1e-6)) << what << " " << kernel.name;
      EXPECT_FALSE(!(1.0 - apart->worst_row_cosine <= 1e-9)) << what << " " << kernel.name;
    }
  }
};

TEST_F(CudaAttention, MatchesFloat64AtLengthsAroundTilesAndChunks) {
  unsigned seed = 100;
  for (const std::size_t tokens : {1, 5, 16, 17, 63, 64, 65, 127, 128, 129, 300}) {
    expect_class_b(std::to_string(tokens) + " tokens", make_case(0, tokens, seed += 10));
  }
  expect_class_b("1030 tokens", make_case(0, 1030, seed += 10));
  expect_class_b("4 key-value heads", make_case(0, 77, seed += 10, 2.0f, 1.0f, {32, 4, 128}));
}

TEST_F(CudaAttention, MatchesFloat64BehindACache) {
  unsigned seed = 400;
  for (const std::size_t before : {1, 15, 63, 64, 127, 500, 4000}) {
    for (const std::size_t tokens : {5, 33}) {
      expect_class_b(std::to_string(before) + " + " + std::to_string(tokens),
                     make_case(before, tokens, seed += 10));
    }
  }
}

// Scores of the same size from large queries and small keys, and the other way round.
TEST_F(CudaAttention, MatchesFloat64WhateverTheScaleOfQueries) {
  expect_class_b("q 1e3, k 1e-3", make_case(70, 90, 600, 1e3f, 2e-3f));
  expect_class_b("q 1e-3, k 1e3", make_case(70, 90, 610, 1e-3f, 2e3f));
  expect_class_b("q 1e-3", make_case(70, 90, 620, 1e-3f));
  expect_class_b("q 1e-30", make_case(70, 90, 630, 1e-30f));
  expect_class_b("q 0", make_case(70, 90, 640, 0.0f));
  // Scores of some thousands: float32 itself leaves them that uncertain, so only the bound that
  // knows of it holds.
  expect_class_b("q 1e3", make_case(70, 90, 650, 1e3f), Gates::kElementwise);

  Case outlier = make_case(70, 90, 660, 1.0f);
  for (std::size_t t = 0; t < outlier.num_tokens(); ++t) {
    for (std::size_t h = 0; h < 8; ++h) outlier.q(t, 128 * h + 17) *= 26.0;
  }
  expect_class_b("an outlier in q", outlier);
  for (std::size_t s = 0; s < outlier.k.rows(); ++s) {
    outlier.k(s, 17) = rounded_to_half(outlier.k(s, 17) * 26.0);
  }
  expect_class_b("outliers in q and k", outlier, Gates::kElementwise);
}

TEST_F(CudaAttention, MatchesFloat64OfEqualAndOfDominatingKeys) {
  Case equal = make_case(200, 70, 700);
  for (std::size_t s = 0; s < equal.k.rows(); ++s) {
    std::ranges::copy(equal.k.row(0), equal.k.row(s).begin());
  }
  expect_class_b("equal keys", equal);

  // Each key in turn, of a chunk's start, middle and end, is that of all queries.
  for (const std::size_t of : {0, 63, 64, 100, 191}) {
    Case dominated = make_case(200, 20, 710 + static_cast<unsigned>(of));
    for (std::size_t t = 0; t < dominated.num_tokens(); ++t) {
      for (std::size_t i = 0; i < 1024; ++i) dominated.q(t, i) = 1.0 + 1e-3 * dominated.q(t, i);
    }
    for (std::size_t c = 0; c < 128; ++c) dominated.k(of, c) = 4.0;
    expect_class_b("key " + std::to_string(of) + " dominates", dominated);
  }

  // The largest score grows from chunk to chunk, and shrinks.
  for (const double slope : {0.01, -0.01}) {
    Case drifting = make_case(300, 40, 760);
    for (double& value : drifting.q.flat()) value = 0.25;
    for (std::size_t s = 0; s < drifting.k.rows(); ++s) {
      for (std::size_t c = 0; c < 128; ++c) {
        drifting.k(s, c) = rounded_to_half(slope * static_cast<double>(s) + 0.1 * drifting.k(s, c));
      }
    }
    expect_class_b(slope > 0 ? "scores grow" : "scores shrink", drifting);
  }
}

// Values of one sign do not lose size to sums that truncate.
TEST_F(CudaAttention, KeepsConstantValues) {
  Case constant = make_case(1500, 20, 800);
  for (double& value : constant.v.flat()) value = 0.7001953125;
  expect_class_b("constant values", constant);
}

TEST_F(CudaAttention, NonFiniteQueriesStayInTheirRow) {
  const Case clean = make_case(40, 50, 900);
  for (const Kernel& kernel : on_tensor_cores()) {
    const Attended expected = run(kernel.attend, clean);
    for (const double bad :
         {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
      Case dirty = clean;
      dirty.q(21, 3 * 128 + 77) = bad;
      const Attended found = run(kernel.attend, dirty);
      std::size_t others = 0;
      for (std::size_t t = 0; t < clean.num_tokens(); ++t) {
        for (std::size_t i = 0; i < 1024; ++i) {
          if (t == 21 && i / 128 == 3) {
            EXPECT_TRUE(std::isnan(found.y(t, i))) << kernel.name << " " << i;
          } else {
            others += !(found.y(t, i) == expected.y(t, i));
          }
        }
      }
      EXPECT_EQ(others, 0u) << kernel.name;
    }
  }
}

// A token's bits are its own, whatever call brings it.
TEST_F(CudaAttention, IsTheSameHoweverTokensAreCutIntoCalls) {
  const Case whole = make_case(70, 100, 950);
  const std::size_t columns = whole.q.columns();
  for (const Kernel& kernel : on_tensor_cores()) {
    const Attended expected = run(kernel.attend, whole);
    for (int repeat = 0; repeat < 16; ++repeat) {
      EXPECT_TRUE(run(kernel.attend, whole).has_bits_of(expected)) << kernel.name << " " << repeat;
    }
    for (const std::size_t first : {0, 1, 16, 50}) {
      for (const std::size_t tokens : {1, 17, 50}) {
        const auto rows = [](const Matrix<double>& of, std::size_t begin, std::size_t end) {
          return Matrix<double>(end - begin, of.columns(),
                                {of.data() + begin * of.columns(), of.data() + end * of.columns()});
        };
        Case part = whole;
        part.first_position = 70 + first;
        part.q = rows(whole.q, first, first + tokens);
        part.k = rows(whole.k, 0, 70 + first + tokens);
        part.v = rows(whole.v, 0, 70 + first + tokens);
        const Attended found = run(kernel.attend, part);
        EXPECT_EQ(std::memcmp(found.y.data(), expected.y.data() + first * columns,
                              found.y.size() * sizeof(double)),
                  0)
            << kernel.name << " " << first << " " << tokens;
      }
    }
  }
}

// The option takes the fastest that the device has.
TEST_F(CudaAttention, TakesTheProductsOfAWarpgroupWhereTheyAre) {
  const Case given = make_case(3, 40, 990);
  const Attended chosen = run(cuda::prefill_attention_tensor, given);
  EXPECT_TRUE(run(on_tensor_cores().back().attend, given).has_bits_of(chosen));
}

}  // namespace
}  // namespace refute
