// What the tests of the CPU backend share: every context to try, stored weights and activations
// that reach the corners, the documented summation order in plain loops, and comparison by bits.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "kernels/cpu/context.h"
#include "kernels/matrix.h"
#include "kernels/quant/blocks.h"
#include "kernels/quant/dequantize.h"
#include "kernels/quant/half.h"

namespace refute::cpu_test {

inline cpu::Context make_context(cpu::Isa isa, std::size_t num_threads) {
  return cpu::Context::create(num_threads, isa).value();
}

// Every supported instruction set with 1, 2 and 3 threads.
inline std::vector<cpu::Context> all_contexts() {
  std::vector<cpu::Context> contexts;
  for (const cpu::Isa isa : cpu::supported_isas()) {
    for (const std::size_t threads : {1, 2, 3}) contexts.push_back(make_context(isa, threads));
  }
  return contexts;
}

inline std::string describe(const cpu::Context& context) {
  return std::string(cpu::isa_name(context.isa())) + " with " +
         std::to_string(context.threads().num_threads()) + " threads";
}

// Bit for bit, except that any NaN equals any NaN.
inline bool same_bits(float a, float b) {
  return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b) ||
         (std::isnan(a) && std::isnan(b));
}

inline ::testing::AssertionResult same_bits(std::span<const float> found,
                                            std::span<const float> expected) {
  if (found.size() != expected.size()) return ::testing::AssertionFailure() << "sizes differ";
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (!same_bits(found[i], expected[i])) {
      return ::testing::AssertionFailure()
             << "element " << i << ": found " << std::hexfloat << found[i] << ", expected "
             << expected[i] << std::defaultfloat << " (" << found[i] << ", " << expected[i] << ")";
    }
  }
  return ::testing::AssertionSuccess();
}

// sqrt(sum (found - expected)^2 / sum expected^2); NaN when there is nothing to compare.
inline double relative_l2(std::span<const float> found, std::span<const double> expected) {
  if (found.size() != expected.size()) return std::nan("");
  double error = 0.0;
  double norm = 0.0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    const double difference = static_cast<double>(found[i]) - expected[i];
    error += difference * difference;
    norm += expected[i] * expected[i];
  }
  return std::sqrt(error / norm);
}

// The halving tree of kernels/matmul.h over 128 lanes.
inline float halving_tree(std::array<float, 128> lanes) {
  for (std::size_t h = 64; h > 0; h /= 2) {
    for (std::size_t i = 0; i < h; ++i) lanes[i] += lanes[i + h];
  }
  return lanes[0];
}

// The dot product of float32 vectors in the documented order.
inline float textbook_dot(std::span<const float> a, std::span<const float> b) {
  std::array<float, 128> lanes{};
  for (std::size_t c = 0; c < a.size(); ++c) lanes[c % 128] = std::fma(a[c], b[c], lanes[c % 128]);
  return halving_tree(lanes);
}

inline Matrix<double> widen(MatrixView<const float> x) {
  Matrix<double> wide(x.rows, x.columns);
  for (std::size_t i = 0; i < x.size(); ++i) wide.flat()[i] = static_cast<double>(x.data[i]);
  return wide;
}

inline Matrix<float> random_matrix(std::size_t rows, std::size_t columns, unsigned seed,
                                   float deviation = 1.0f) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, deviation);
  Matrix<float> x(rows, columns);
  for (float& value : x.flat()) value = normal(random);
  return x;
}

// Stored weights and the view of them.
struct StoredWeights {
  WeightView view;
  std::vector<std::byte> bytes;
};

// kPlain: finite d of ordinary size, random integers. kCorners: blocks take turns at extreme
// integers, scales and d (negative, subnormal, 0, the largest).
enum class Blocks { kPlain, kCorners };

inline StoredWeights random_weights(TensorType type, std::size_t rows, std::size_t columns,
                                    Blocks blocks, unsigned seed) {
  std::mt19937 random(seed);
  const TensorTypeInfo& info = tensor_type_info(type);
  StoredWeights weights;
  weights.bytes.resize(rows * row_bytes(type, columns));
  weights.view = {type, rows, columns, weights.bytes.data()};
  const std::size_t count = weights.bytes.size() / info.block_bytes;
  std::normal_distribution<float> normal(0.0f, 1.0f);
  // The half-precision d and dmin; the last two are the smallest subnormal and the largest number.
  constexpr std::array<std::uint16_t, 8> kScales = {0x1c00, 0x9c00, 0x0000, 0x8001,
                                                    0x03ff, 0x8000, 0x0001, 0x7bff};
  for (std::size_t b = 0; b < count; ++b) {
    std::byte* const block = weights.bytes.data() + b * info.block_bytes;
    if (!info.is_quantized) {
      const float value = normal(random);
      const std::uint16_t half =
          type == TensorType::kF16 ? half_from_float(value) : bfloat16_from_float(value);
      if (type == TensorType::kF32) {
        std::memcpy(block, &value, sizeof(value));
      } else {
        std::memcpy(block, &half, sizeof(half));
      }
      continue;
    }
    // All bits 0 or all 1 give the extreme integers and scales; Q8_0's and Q6_K's extreme is -128.
    const std::size_t corner = blocks == Blocks::kPlain ? 0 : b % 5;
    for (std::size_t i = 0; i < info.block_bytes; ++i) {
      const auto any = static_cast<std::byte>(random() & 0xff);
      block[i] = corner == 1   ? std::byte{0x00}
                 : corner == 2 ? std::byte{0xff}
                 : corner == 3 ? std::byte{0x80}
                               : any;
    }
    if (type == TensorType::kQ6_K) {  // -128 * -32, the largest product, and 127 * 31
      if (corner == 1 || corner == 4) std::memset(block + 192, 0x80, 16);
      if (corner == 2) std::memset(block + 192, 0x7f, 16);
    }
    if (corner == 4 && (type == TensorType::kQ4_K || type == TensorType::kQ5_K)) {
      std::memset(block + 4, 0xff, 12);
    }
    const auto scale = [&] {
      const std::size_t choice = random() % kScales.size();
      if (blocks == Blocks::kCorners) return kScales[choice];
      return static_cast<std::uint16_t>(0x1800 + random() % 0x400);
    };
    const std::array<std::uint16_t, 2> d = {scale(), scale()};
    if (type == TensorType::kQ6_K) {
      std::memcpy(block + 208, d.data(), 2);
    } else {
      std::memcpy(block, d.data(), type == TensorType::kQ8_0 ? 2 : 4);
    }
  }
  return weights;
}

}  // namespace refute::cpu_test
