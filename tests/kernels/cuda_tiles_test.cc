// The tile layout of GPU memory, on the host: byte-neutral and reversible, both ways, and where the
// documentation says.
#include "kernels/cuda/tiles.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/quant/blocks.h"

namespace refute::cuda {
namespace {

constexpr TensorType kQuantized[] = {TensorType::kQ8_0, TensorType::kQ4_K, TensorType::kQ5_K,
                                     TensorType::kQ6_K};

std::vector<std::byte> random_bytes(std::size_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> bytes(size);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random() & 0xff);
  return bytes;
}

struct Shape {
  std::size_t rows;
  std::size_t columns;
};
// One row, whole groups, tails of every kind, one and several super-blocks.
constexpr Shape kShapes[] = {{1, 256},  {7, 256},  {8, 256},  {9, 512},
                             {16, 768}, {31, 512}, {64, 2304}};

TEST(CudaTiles, RepackAndUnpackAreInverse) {
  for (const TensorType type : kQuantized) {
    for (const Shape& shape : kShapes) {
      const std::size_t size = shape.rows * row_bytes(type, shape.columns);
      const auto rows = random_bytes(size, 1);
      std::vector<std::byte> tiles(size, std::byte{0xee});
      repack_rows(type, shape.rows, shape.columns, rows.data(), tiles.data());
      std::vector<std::byte> back(size, std::byte{0xdd});
      unpack_rows(type, shape.rows, shape.columns, tiles.data(), back.data());
      EXPECT_EQ(back, rows) << tensor_type_info(type).name << " " << shape.rows;
      // And the other way: any bytes are somebody's tiles.
      unpack_rows(type, shape.rows, shape.columns, rows.data(), back.data());
      repack_rows(type, shape.rows, shape.columns, back.data(), tiles.data());
      EXPECT_EQ(tiles, rows) << tensor_type_info(type).name << " " << shape.rows;
    }
  }
}

// A map that were not one to one would lose or double bits somewhere.
TEST(CudaTiles, EveryBitHasItsOwnPlace) {
  for (const TensorType type : kQuantized) {
    const std::size_t size = 8 * row_bytes(type, 256);
    std::vector<bool> taken(8 * size, false);
    std::vector<std::byte> rows(size, std::byte{0});
    std::vector<std::byte> tiles(size);
    for (std::size_t bit = 0; bit < 8 * size; ++bit) {
      rows[bit / 8] = static_cast<std::byte>(1u << (bit % 8));
      repack_rows(type, 8, 256, rows.data(), tiles.data());
      rows[bit / 8] = std::byte{0};
      std::size_t places = 0;
      for (std::size_t i = 0; i < size; ++i) {
        for (unsigned b = 0; tiles[i] != std::byte{0} && b < 8; ++b) {
          if ((static_cast<unsigned>(tiles[i]) >> b & 1u) == 0) continue;
          ++places;
          ASSERT_FALSE(taken[8 * i + b]) << tensor_type_info(type).name << " bit " << bit;
          taken[8 * i + b] = true;
        }
      }
      ASSERT_EQ(places, 1u) << tensor_type_info(type).name << " bit " << bit;
    }
  }
}

TEST(CudaTiles, RowGroupsAreIndependent) {
  for (const TensorType type : kQuantized) {
    const std::size_t bytes_per_row = row_bytes(type, 512);
    const auto rows = random_bytes(27 * bytes_per_row, 2);
    std::vector<std::byte> whole(rows.size());
    std::vector<std::byte> pieces(rows.size());
    repack_rows(type, 27, 512, rows.data(), whole.data());
    repack_rows(type, 16, 512, rows.data(), pieces.data());
    repack_rows(type, 11, 512, rows.data() + 16 * bytes_per_row,
                pieces.data() + 16 * bytes_per_row);
    EXPECT_EQ(pieces, whole) << tensor_type_info(type).name;
  }
}

TEST(CudaTiles, TailRowsAndOtherShapesKeepTheFilesLayout) {
  for (const TensorType type : kQuantized) {
    const std::size_t bytes_per_row = row_bytes(type, 256);
    const auto rows = random_bytes(11 * bytes_per_row, 3);
    std::vector<std::byte> tiles(rows.size());
    repack_rows(type, 11, 256, rows.data(), tiles.data());
    EXPECT_TRUE(std::equal(rows.begin() + static_cast<std::ptrdiff_t>(8 * bytes_per_row),
                           rows.end(),
                           tiles.begin() + static_cast<std::ptrdiff_t>(8 * bytes_per_row)));
    EXPECT_FALSE(std::equal(rows.begin(), rows.end(), tiles.begin()));
  }
  // No whole super-block, no quantized type: nothing moves.
  EXPECT_FALSE(has_tiles(TensorType::kQ8_0, 288));
  EXPECT_FALSE(has_tiles(TensorType::kF16, 256));
  EXPECT_TRUE(has_tiles(TensorType::kQ8_0, 256));
  const auto q8 = random_bytes(8 * row_bytes(TensorType::kQ8_0, 288), 4);
  std::vector<std::byte> copy(q8.size());
  repack_rows(TensorType::kQ8_0, 8, 288, q8.data(), copy.data());
  EXPECT_EQ(copy, q8);
}

TEST(CudaTiles, Q4KStandsWhereTheHeaderSays) {
  // Row 5 of the second super-block of two: lane 4 * 5 + p.
  std::vector<BlockQ4K> blocks(16);
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    std::memset(&blocks[i], 0, sizeof(BlockQ4K));
  }
  BlockQ4K& block = blocks[2 * 5 + 1];
  block.d = 0x1234;
  block.dmin = 0x5678;
  for (std::size_t i = 0; i < 12; ++i) block.scales[i] = static_cast<std::uint8_t>(0xa0 + i);
  for (std::size_t i = 0; i < 128; ++i) block.q[i] = static_cast<std::uint8_t>(i);
  std::vector<std::byte> tiles(16 * sizeof(BlockQ4K));
  repack_rows(TensorType::kQ4_K, 8, 512, reinterpret_cast<const std::byte*>(blocks.data()),
              tiles.data());
  const std::byte* tile = tiles.data() + 1152;
  EXPECT_EQ(std::memcmp(tile + 1024 + 16 * 5, &block, 16), 0);
  for (std::size_t p = 0; p < 4; ++p) {
    const std::size_t lane = 4 * 5 + p;
    EXPECT_EQ(std::memcmp(tile + 16 * lane, block.q + 32 * p, 16), 0);
    EXPECT_EQ(std::memcmp(tile + 512 + 16 * lane, block.q + 32 * p + 16, 16), 0);
  }
}

TEST(CudaTiles, Q6KElementsCanBeReadBackFromALane) {
  const auto rows = random_bytes(8 * sizeof(BlockQ6K), 5);
  std::vector<std::byte> tiles(rows.size());
  repack_rows(TensorType::kQ6_K, 8, 256, rows.data(), tiles.data());
  const auto byte = [&](std::size_t at) { return static_cast<unsigned>(tiles[at]); };
  for (std::size_t r = 0; r < 8; ++r) {
    BlockQ6K block;
    std::memcpy(&block, rows.data() + r * sizeof(block), sizeof(block));
    for (std::size_t i = 0; i < 256; ++i) {
      // As in the file, see kernels/quant/blocks.h.
      const std::size_t half = i / 128;
      const std::size_t quarter = i % 128 / 32;
      const std::size_t l = i % 32;
      const unsigned low_byte = block.q_low[64 * half + 32 * (quarter % 2) + l];
      const unsigned low = quarter < 2 ? low_byte & 15u : low_byte >> 4;
      const unsigned high = (block.q_high[32 * half + l] >> (2 * quarter)) & 3u;
      // As in the tile: block b of 32 belongs to p = b / 2, its first or second place.
      const std::size_t lane = 4 * r + i / 64;
      const unsigned second = i / 32 % 2;
      const std::size_t k = l / 4;
      const unsigned nibbles = byte(l / 16 * 512 + 16 * lane + l % 16);
      const unsigned bits = byte(1024 + 16 * lane + 4 * (k / 2) + l % 4);
      EXPECT_EQ((nibbles >> (4 * second)) & 15u, low) << "row " << r << " element " << i;
      EXPECT_EQ((bits >> (4 * (k % 2) + 2 * second)) & 3u, high) << "row " << r << " element " << i;
    }
    EXPECT_EQ(byte(1664 + 2 * r) | (byte(1665 + 2 * r) << 8), block.d);
  }
}

}  // namespace
}  // namespace refute::cuda
