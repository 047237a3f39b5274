#include "kernels/quant/dequantize.h"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/quant/blocks.h"
#include "kernels/quant/half.h"

namespace refute {
namespace {

template <typename Block>
const std::byte* bytes_of(const Block& block) {
  return reinterpret_cast<const std::byte*>(&block);
}

TEST(ScaleMin, PackAndUnpackAgreeForAllValuesAtAllPlaces) {
  for (int place = 0; place < 8; ++place) {
    for (int scale = 0; scale < 64; ++scale) {
      for (int min = 0; min < 64; ++min) {
        ScaleMin sub_blocks[8];
        for (int j = 0; j < 8; ++j) {
          sub_blocks[j] = {static_cast<std::uint8_t>((7 * j + scale + 1) % 64),
                           static_cast<std::uint8_t>((11 * j + min + 3) % 64)};
        }
        sub_blocks[place] = {static_cast<std::uint8_t>(scale), static_cast<std::uint8_t>(min)};
        std::uint8_t packed[12];
        pack_scale_min(sub_blocks, packed);
        for (int j = 0; j < 8; ++j) {
          const ScaleMin unpacked = unpack_scale_min(packed, j);
          ASSERT_EQ(unpacked.scale, sub_blocks[j].scale) << j;
          ASSERT_EQ(unpacked.min, sub_blocks[j].min) << j;
        }
      }
    }
  }
}

TEST(Dequantize, Q8_0MatchesHandComputedBlock) {
  BlockQ8_0 block{};
  block.d = half_from_float(0.5f);
  block.q[0] = -128;
  block.q[31] = 127;
  std::array<double, 32> values{};
  dequantize_row(TensorType::kQ8_0, bytes_of(block), values);
  EXPECT_EQ(values[0], -64.0);
  EXPECT_EQ(values[1], 0.0);
  EXPECT_EQ(values[31], 63.5);
}

TEST(Dequantize, Q4KMatchesHandComputedBlock) {
  BlockQ4K block{};
  block.d = half_from_float(0.25f);
  block.dmin = half_from_float(2.0f);
  ScaleMin sub_blocks[8] = {{1, 1}, {2, 0}, {3, 3}, {4, 4}, {63, 63}, {6, 6}, {7, 0}, {8, 8}};
  pack_scale_min(sub_blocks, block.scales);
  block.q[0] = 0xf3;       // Element 0 is 3, element 32 is 15.
  block.q[64 + 5] = 0x2a;  // Element 128 + 5 is 10, element 160 + 5 is 2.
  std::array<double, 256> values{};
  dequantize_row(TensorType::kQ4_K, bytes_of(block), values);
  EXPECT_EQ(values[0], 0.25 * 1 * 3 - 2.0 * 1);
  EXPECT_EQ(values[1], -2.0);
  EXPECT_EQ(values[32], 0.25 * 2 * 15);
  EXPECT_EQ(values[133], 0.25 * 63 * 10 - 2.0 * 63);
  EXPECT_EQ(values[165], 0.25 * 6 * 2 - 2.0 * 6);
  EXPECT_EQ(values[255], -16.0);
}

TEST(Dequantize, Q5KTakesTheFifthBitOfItsSubBlock) {
  BlockQ5K block{};
  block.d = half_from_float(1.0f);
  ScaleMin sub_blocks[8] = {{1, 0}, {1, 0}, {1, 0}, {1, 0}, {1, 0}, {1, 0}, {1, 0}, {2, 0}};
  pack_scale_min(sub_blocks, block.scales);
  block.q_high[4] = 0x81;  // Sub-blocks 0 and 7.
  block.q[4] = 0x05;       // Element 4 is 5 + 16.
  block.q[96 + 4] = 0x90;  // Element 224 + 4 is 9 + 16, element 192 + 4 is 0.
  std::array<double, 256> values{};
  dequantize_row(TensorType::kQ5_K, bytes_of(block), values);
  EXPECT_EQ(values[4], 21.0);
  EXPECT_EQ(values[36], 0.0);
  EXPECT_EQ(values[196], 0.0);
  EXPECT_EQ(values[228], 50.0);
}

TEST(Dequantize, Q6KMatchesHandComputedBlock) {
  BlockQ6K block{};
  block.d = half_from_float(0.5f);
  for (int i = 0; i < 16; ++i) block.scales[i] = static_cast<std::int8_t>(i - 8);
  // Element 128 + 70 (half 1, quarter 2, l = 6): high nibble of byte 64 + 6, bits 4-5 of byte 32
  // + 6.
  block.q_low[70] = 0xb0;
  block.q_high[38] = 0x30;
  std::array<double, 256> values{};
  dequantize_row(TensorType::kQ6_K, bytes_of(block), values);
  EXPECT_EQ(values[198], 0.5 * (198 / 16 - 8) * ((0xb | 0x30) - 32));
  EXPECT_EQ(values[0], 0.5 * -8 * -32);
  EXPECT_EQ(values[255], 0.5 * 7 * -32);
}

TEST(Dequantize, Float32ValuesAreTheFloat64OnesRoundedOnce) {
  std::mt19937 random(7);
  for (const TensorTypeInfo& type : tensor_types()) {
    if (!type.is_weight) continue;
    std::vector<std::byte> row(row_bytes(type.type, 256));
    for (int repeat = 0; repeat < 50; ++repeat) {
      for (std::byte& byte : row) byte = static_cast<std::byte>(random());
      if (!row_scales_are_finite(type.type, row.data(), 256)) continue;
      std::array<double, 256> exact{};
      std::array<float, 256> rounded{};
      dequantize_row(type.type, row.data(), std::span<double>(exact));
      dequantize_row(type.type, row.data(), std::span<float>(rounded));
      for (int i = 0; i < 256; ++i) {
        ASSERT_EQ(rounded[static_cast<std::size_t>(i)],
                  static_cast<float>(exact[static_cast<std::size_t>(i)]))
            << type.name << " element " << i;
      }
    }
  }
}

TEST(Dequantize, ScalesThatAreNotFiniteAreSeen) {
  for (const TensorTypeInfo& type : tensor_types()) {
    if (!type.is_weight) continue;
    std::vector<std::byte> row(2 * row_bytes(type.type, 256));
    EXPECT_TRUE(row_scales_are_finite(type.type, row.data(), 512)) << type.name;
    // All bits set is NaN in every floating-point format; only the second half of the row has it.
    std::memset(row.data() + row.size() / 2, 0xff, row.size() / 2);
    EXPECT_FALSE(row_scales_are_finite(type.type, row.data(), 512)) << type.name;
  }
}

TEST(TensorType, RowBytesRoundUpToWholeBlocks) {
  EXPECT_EQ(row_bytes(TensorType::kQ4_K, 256), 144u);
  EXPECT_EQ(row_bytes(TensorType::kQ4_K, 257), 288u);
  EXPECT_EQ(row_bytes(TensorType::kQ6_K, 512), 420u);
  EXPECT_EQ(row_bytes(TensorType::kQ8_0, 33), 68u);
  EXPECT_EQ(row_bytes(TensorType::kF32, 3), 12u);
  EXPECT_EQ(parse_tensor_type("q4_k"), TensorType::kQ4_K);
  EXPECT_EQ(parse_tensor_type("Q4_1"), std::nullopt);
}

}  // namespace
}  // namespace refute
