#include "kernels/cpu/tiles.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/cpu/products.h"
#include "kernels/quant/blocks.h"
#include "tests/kernels/cpu_support.h"

namespace refute::cpu {
namespace {

using cpu_test::Blocks;
using cpu_test::StoredWeights;

constexpr std::array kTypes = {TensorType::kQ8_0, TensorType::kQ4_K, TensorType::kQ5_K,
                               TensorType::kQ6_K};
constexpr std::size_t kMostTokens = 25;

// Packed tiles, aligned as the kernels' caller aligns them.
class Packed {
 public:
  explicit Packed(const WeightView& weight)
      : groups_(weight.rows / kTileRows),
        bytes_(groups_ * group_bytes(weight.type, weight.columns)),
        memory_(bytes_ + 64) {
    pack_tiles(weight.type, groups_, weight.columns, weight.data, data());
  }
  std::byte* data() {
    const auto address = reinterpret_cast<std::uintptr_t>(memory_.data());
    return memory_.data() + (64 - address % 64) % 64;
  }
  std::size_t bytes() const { return bytes_; }

 private:
  std::size_t groups_;
  std::size_t bytes_;
  std::vector<std::byte> memory_;
};

Matrix<float> products(const Context& context, const PlacedWeight& weight,
                       MatrixView<const float> x) {
  Matrix<float> y(x.rows, weight.stored.rows);
  ProductInput input(x);
  const Product product{weight, 0, x.rows, y.view()};
  multiply(context, input, {&product, 1});
  return y;
}

std::vector<Context> tiled_contexts() {
  std::vector<Context> contexts;
  for (const Isa isa : supported_isas()) {
    for (const std::size_t threads : {1, 3}) {
      Context context = Context::create(threads, isa).value();
      if (uses_tiles(context)) contexts.push_back(std::move(context));
    }
  }
  return contexts;
}

void expect_bits_of_rows(TensorType type, std::size_t rows, std::size_t columns, Blocks blocks) {
  const StoredWeights weights = cpu_test::random_weights(type, rows, columns, blocks, 7);
  Packed packed(weights.view);
  Matrix<float> x = cpu_test::random_matrix(kMostTokens, columns, 5);
  std::ranges::fill(x.row(3), 0.0f);
  for (float& value : x.row(4)) value *= 0x1p-140f;
  x(5, columns / 2) = std::numeric_limits<float>::infinity();
  for (const Context& context : tiled_contexts()) {
    for (std::size_t tokens = 1; tokens <= kMostTokens; ++tokens) {
      const MatrixView<const float> input(x.data(), tokens, columns);
      const Matrix<float> expected = products(context, {weights.view}, input);
      const Matrix<float> got = products(context, {weights.view, packed.data()}, input);
      for (std::size_t i = 0; i < got.size(); ++i) {
        const float e = expected.data()[i];
        const float g = got.data()[i];
        ASSERT_TRUE(std::memcmp(&e, &g, sizeof(float)) == 0 || (std::isnan(e) && std::isnan(g)))
            << tensor_type_info(type).name << " " << rows << " x " << columns << ", " << tokens
            << " tokens, token " << i / rows << ", row " << i % rows << ": " << g << ", expected "
            << e << ", " << cpu_test::describe(context);
      }
    }
  }
}

TEST(CpuTiles, GiveTheBitsOfStoredRows) {
  for (const TensorType type : kTypes) {
    for (const std::size_t columns : {256, 512, 768, 2304}) {
      expect_bits_of_rows(type, 16, columns, Blocks::kPlain);
      expect_bits_of_rows(type, 48, columns, Blocks::kCorners);
    }
  }
}

TEST(CpuTiles, RowsPastTheLastGroupAreReadAsStored) {
  for (const TensorType type : kTypes) {
    expect_bits_of_rows(type, 15, 256, Blocks::kPlain);
    expect_bits_of_rows(type, 33, 512, Blocks::kCorners);
  }
}

TEST(CpuTiles, HoldEveryStoredByteOnce) {
  for (const TensorType type : kTypes) {
    for (const std::size_t columns : {256, 768, 1024}) {
      StoredWeights weights = cpu_test::random_weights(type, 32, columns, Blocks::kPlain, 3);
      std::vector<std::size_t> from(256);
      std::vector<std::size_t> to(256);
      for (const std::byte byte : weights.bytes) ++from[static_cast<std::size_t>(byte)];
      Packed packed(weights.view);
      for (std::size_t i = 0; i < packed.bytes(); ++i) {
        ++to[static_cast<std::size_t>(packed.data()[i])];
      }
      const std::size_t added = packed.bytes() - weights.bytes.size();
      EXPECT_LE(added, 2u * 32u);
      to[0] -= added;  // Between the sections of an odd number of Q6_K tiles.
      EXPECT_EQ(to, from) << tensor_type_info(type).name << " " << columns;
    }
  }
}

TEST(CpuTiles, ExistForWholeSuperBlocksOfQuantizedTypes) {
  for (const TensorType type : kTypes) {
    EXPECT_TRUE(has_tiles(type, 768));
    EXPECT_FALSE(has_tiles(type, 288));
    EXPECT_FALSE(has_tiles(type, 0));
  }
  EXPECT_FALSE(has_tiles(TensorType::kF32, 256));
  EXPECT_FALSE(has_tiles(TensorType::kF16, 256));
}

TEST(CpuProducts, OfOneInputAreThoseOfEachAlone) {
  const StoredWeights a = cpu_test::random_weights(TensorType::kQ4_K, 48, 512, Blocks::kPlain, 1);
  const StoredWeights b = cpu_test::random_weights(TensorType::kQ6_K, 33, 512, Blocks::kPlain, 2);
  const StoredWeights c = cpu_test::random_weights(TensorType::kF16, 20, 512, Blocks::kPlain, 3);
  Packed packed_a(a.view);
  const Matrix<float> x = cpu_test::random_matrix(6, 512, 5);
  const std::vector<std::size_t> taken = {4, 0, 0, 5, 2, 1, 3, 4, 4, 1, 2};
  Matrix<float> rows(taken.size(), 512);
  for (std::size_t i = 0; i < taken.size(); ++i) {
    std::ranges::copy(x.row(taken[i]), rows.row(i).begin());
  }
  for (const Context& context : cpu_test::all_contexts()) {
    const std::byte* const tiles = uses_tiles(context) ? packed_a.data() : nullptr;
    ProductInput all(x.view());
    ProductInput input(all, taken);
    Matrix<float> ya(taken.size(), 48), yb(taken.size(), 33), yc(taken.size(), 20);
    const auto part = [](Matrix<float>& y, std::size_t begin, std::size_t end) {
      return MatrixView<float>(y.row(begin).data(), end - begin, y.columns());
    };
    const Product products_of_all[] = {
        {{a.view, tiles}, 0, 9, part(ya, 0, 9)}, {{a.view, tiles}, 9, 11, part(ya, 9, 11)},
        {{b.view}, 0, 9, part(yb, 0, 9)},        {{b.view}, 9, 11, part(yb, 9, 11)},
        {{c.view}, 0, 9, part(yc, 0, 9)},        {{c.view}, 9, 11, part(yc, 9, 11)}};
    multiply(context, input, products_of_all);
    const auto same = [&](const Matrix<float>& y, const WeightView& weight) {
      return cpu_test::same_bits(y.flat(), products(context, {weight}, rows.view()).flat());
    };
    EXPECT_TRUE(same(ya, a.view)) << cpu_test::describe(context);
    EXPECT_TRUE(same(yb, b.view)) << cpu_test::describe(context);
    EXPECT_TRUE(same(yc, c.view)) << cpu_test::describe(context);
  }
}

// What comes next is fetched, never read: tiles or none, of any size, even after a single row
// group.
TEST(CpuProducts, AreTheSameWhateverComesNext) {
  const Matrix<float> x = cpu_test::random_matrix(2, 512, 5);
  for (const TensorType type : kTypes) {
    const StoredWeights weights = cpu_test::random_weights(type, 64, 512, Blocks::kPlain, 1);
    const StoredWeights other = cpu_test::random_weights(type, 17, 256, Blocks::kPlain, 2);
    Packed packed(weights.view);
    Packed packed_other(other.view);
    const std::vector<std::vector<PlacedWeight>> nexts = {
        {{other.view, packed_other.data()}, {weights.view, packed.data()}},
        {{other.view}, {weights.view, packed.data()}},
        {{weights.view, packed.data()}}};
    for (const Context& context : tiled_contexts()) {
      for (const std::size_t tokens : {1, 2}) {
        const MatrixView<const float> input(x.data(), tokens, 512);
        const Matrix<float> expected = products(context, {weights.view, packed.data()}, input);
        for (const std::vector<PlacedWeight>& next : nexts) {
          Matrix<float> y(tokens, 64);
          ProductInput product_input(input);
          const Product product{{weights.view, packed.data()}, 0, tokens, y.view()};
          multiply(context, product_input, {&product, 1}, next);
          EXPECT_TRUE(cpu_test::same_bits(y.flat(), expected.flat()))
              << tensor_type_info(type).name << ", " << cpu_test::describe(context);
        }
      }
    }
  }
}

// Enough rows for several notices of one thread, and some left over.
TEST(CpuProducts, TellOfEveryColumnOnceWithItsValues) {
  constexpr std::size_t kRows = 16 * 300 + 5;
  const Matrix<float> x = cpu_test::random_matrix(2, 256, 5);
  const StoredWeights weights =
      cpu_test::random_weights(TensorType::kQ4_K, kRows, 256, Blocks::kPlain, 1);
  Packed packed(weights.view);
  for (const Context& context : tiled_contexts()) {
    for (const std::byte* const tiles :
         {static_cast<const std::byte*>(packed.data()), static_cast<const std::byte*>(nullptr)}) {
      Matrix<float> y(2, kRows);
      Matrix<float> told(2, kRows);
      std::vector<int> times(kRows, 0);
      ProductInput input(x.view());
      const Product product{{weights.view, tiles}, 0, 2, y.view()};
      multiply(context, input, {&product, 1}, {},
               [&](const Product& done, std::size_t begin, std::size_t end) {
                 for (std::size_t c = begin; c < end; ++c) {
                   ++times[c];
                   for (std::size_t t = 0; t < 2; ++t) told(t, c) = done.y.row(t)[c];
                 }
               });
      EXPECT_EQ(times, std::vector<int>(kRows, 1)) << cpu_test::describe(context);
      EXPECT_TRUE(cpu_test::same_bits(told.flat(), y.flat())) << cpu_test::describe(context);
    }
  }
}

}  // namespace
}  // namespace refute::cpu
