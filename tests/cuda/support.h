// What the tests on a GPU share. Without one they are skipped, visibly; with REFUTE_REQUIRE_GPU in
// the environment that is a failure.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <utility>

#include "engine/backend.h"
#include "engine/backend_cuda.h"
#include "engine/model.h"
#include "kernels/cpu/context.h"
#include "kernels/cuda/device.h"
#include "kernels/matrix.h"

namespace refute::cuda_test {

// Folders of the source tree: where it was built, or REFUTE_SOURCE_DIR of the environment on a
// machine that the program was carried to.
inline std::string source_folder() {
  const char* carried = std::getenv("REFUTE_SOURCE_DIR");
  return carried != nullptr ? carried : REFUTE_SOURCE_DIR;
}

inline std::string pack_path(const std::string& name) {
  const std::string folder = name == "kjv-moe-7m" ? "/contracts/subjects/" : "/tests/data/packs/";
  return source_folder() + folder + name + ".gguf";
}

inline std::unique_ptr<Backend> cpu_backend() {
  return make_cpu_backend(std::move(cpu::Context::create()).value());
}

// The last thing that SetUp does where there is no device.
inline void skip_without_device(const Error& error) {
  if (std::getenv("REFUTE_REQUIRE_GPU") != nullptr) FAIL() << error.message();
  GTEST_SKIP() << error.message();
}

class CudaTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto backend = make_cuda_backend();
    if (!backend) return skip_without_device(backend.error());
    cuda_ = *std::move(backend);
    cpu_ = cpu_backend();
  }

  std::unique_ptr<Backend> cuda_;
  std::unique_ptr<Backend> cpu_;
};

// For what the backend hides.
class CudaContextTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto context = cuda::Context::create();
    if (!context) return skip_without_device(context.error());
    context_ = std::make_unique<cuda::Context>(*std::move(context));
  }

  std::unique_ptr<cuda::Context> context_;
};

// Bit for bit, except that any NaN equals any NaN: the values are float32 ones.
inline bool same_bits(double a, double b) {
  return std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b) ||
         (std::isnan(a) && std::isnan(b));
}

inline ::testing::AssertionResult same_bits(const Matrix<double>& found,
                                            const Matrix<double>& expected) {
  if (found.rows() != expected.rows() || found.columns() != expected.columns()) {
    return ::testing::AssertionFailure()
           << "shapes differ: [" << found.rows() << ", " << found.columns() << "] and ["
           << expected.rows() << ", " << expected.columns() << "]";
  }
  if (expected.size() == 0) return ::testing::AssertionFailure() << "nothing to compare";
  std::size_t differing = 0;
  std::size_t first = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (same_bits(found.flat()[i], expected.flat()[i])) continue;
    if (differing++ == 0) first = i;
  }
  if (differing == 0) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure()
         << differing << " of " << found.size() << " elements differ, the first at row "
         << first / found.columns() << " column " << first % found.columns() << ": found "
         << std::hexfloat << found.flat()[first] << ", expected " << expected.flat()[first]
         << std::defaultfloat << " (" << found.flat()[first] << ", " << expected.flat()[first]
         << ")";
}

inline ::testing::AssertionResult same_bits(const Result<Matrix<double>>& found,
                                            const Result<Matrix<double>>& expected) {
  if (!found) return ::testing::AssertionFailure() << "found " << found.error().message();
  if (!expected) return ::testing::AssertionFailure() << "expected " << expected.error().message();
  return same_bits(*found, *expected);
}

// float32 values as the interface takes them.
inline Matrix<double> random_matrix(std::size_t rows, std::size_t columns, unsigned seed,
                                    float deviation = 1.0f) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, deviation);
  Matrix<double> x(rows, columns);
  for (double& value : x.flat()) value = static_cast<double>(normal(random));
  return x;
}

inline std::vector<float> random_vector(std::size_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, 1.0f);
  std::vector<float> values(size);
  for (float& value : values) value = normal(random);
  return values;
}

inline std::vector<std::int32_t> random_tokens(std::size_t count, std::size_t vocab_size,
                                               unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::int32_t> tokens(count);
  for (auto& token : tokens) token = static_cast<std::int32_t>(random() % vocab_size);
  return tokens;
}

}  // namespace refute::cuda_test
