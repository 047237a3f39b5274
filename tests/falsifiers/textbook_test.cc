#include "falsifiers/textbook.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstddef>
#include <vector>

namespace refute {
namespace {

std::vector<std::byte> block_of(std::size_t size) { return std::vector<std::byte>(size); }

TEST(Textbook, ReadsHalvesOfEveryClass) {
  EXPECT_EQ(textbook::half(0x3c00), 1.0);
  EXPECT_EQ(textbook::half(0xc000), -2.0);
  EXPECT_EQ(textbook::half(0x0001), 0x1p-24);
  EXPECT_EQ(textbook::half(0x03ff), 1023.0 * 0x1p-24);
  EXPECT_EQ(textbook::half(0x7bff), 65504.0);
  EXPECT_TRUE(std::isinf(textbook::half(0x7c00)));
  EXPECT_TRUE(std::isnan(textbook::half(0x7e00)));
}

TEST(Textbook, ReadsAHandMadeQ4KBlock) {
  auto block = block_of(144);
  block[1] = std::byte{0x3c};         // d = 1
  block[3] = std::byte{0x40};         // dmin = 2
  block[4] = std::byte{5 | 0x80};     // scale 0 = 5; high bits of scale 4 = 2
  block[8] = std::byte{3 | 0x40};     // min 0 = 3; high bits of min 4 = 1
  block[12] = std::byte{0x7 | 0x90};  // low bits of scale 4 = 7, of min 4 = 9
  block[16] = std::byte{0xa9};        // element 0 = 9, element 32 = 10
  block[16 + 64] = std::byte{0x04};   // element 128 = 4
  EXPECT_EQ(textbook::element(TensorType::kQ4_K, block.data(), 0).value, 5.0 * 9 - 2.0 * 3);
  EXPECT_EQ(textbook::element(TensorType::kQ4_K, block.data(), 0).magnitude, 5.0 * 9 + 2.0 * 3);
  EXPECT_EQ(textbook::element(TensorType::kQ4_K, block.data(), 1).value, -6.0);
  EXPECT_EQ(textbook::element(TensorType::kQ4_K, block.data(), 32).value, 0.0);
  EXPECT_EQ(textbook::element(TensorType::kQ4_K, block.data(), 128).value,
            (2.0 * 16 + 7) * 4 - 2.0 * (16 + 9));
}

TEST(Textbook, ReadsAHandMadeQ5KBlock) {
  auto block = block_of(176);
  block[1] = std::byte{0x3c};
  block[4 + 1] = std::byte{7};  // scale 1 = 7
  block[16] = std::byte{0x02};  // The fifth bit of element 32.
  block[48] = std::byte{0x30};  // Its low bits: 3.
  EXPECT_EQ(textbook::element(TensorType::kQ5_K, block.data(), 32).value, 7.0 * 19);
  EXPECT_EQ(textbook::element(TensorType::kQ5_K, block.data(), 33).value, 0.0);
}

TEST(Textbook, ReadsAHandMadeQ6KBlock) {
  auto block = block_of(210);
  block[209] = std::byte{0x3c};      // d = 1
  block[192 + 4] = std::byte{0xfe};  // The scale of elements 64 to 79: -2.
  block[0] = std::byte{0x50};        // The low bits of element 64: 5.
  block[128] = std::byte{0x30};      // Its high bits: 3.
  EXPECT_EQ(textbook::element(TensorType::kQ6_K, block.data(), 64).value, -2.0 * (5 + 48 - 32));
  EXPECT_EQ(textbook::element(TensorType::kQ6_K, block.data(), 65).value, -2.0 * -32);
  EXPECT_EQ(textbook::element(TensorType::kQ6_K, block.data(), 0).value, 0.0);
}

TEST(Textbook, ReadsQ8AndFloats) {
  auto block = block_of(34);
  block[1] = std::byte{0x3c};
  block[2 + 31] = std::byte{0x80};
  EXPECT_EQ(textbook::element(TensorType::kQ8_0, block.data(), 31).value, -128.0);
  const std::array<std::byte, 4> one = {std::byte{0}, std::byte{0}, std::byte{0x80},
                                        std::byte{0x3f}};
  EXPECT_EQ(textbook::element(TensorType::kF32, one.data(), 0).value, 1.0);
  EXPECT_EQ(textbook::element(TensorType::kBF16, one.data() + 2, 0).value, 1.0);
}

TEST(Textbook, ScaleAndMinimumSurviveWritingAndReading) {
  std::array<std::byte, 12> packed{};
  packed.fill(std::byte{0xff});
  for (std::size_t index = 0; index < 8; ++index) {
    textbook::set_scale_min(packed, index,
                            {static_cast<unsigned>(7 * index), static_cast<unsigned>(63 - index)});
  }
  for (std::size_t index = 0; index < 8; ++index) {
    EXPECT_EQ(textbook::scale_min(packed, index).scale, 7 * index);
    EXPECT_EQ(textbook::scale_min(packed, index).min, 63 - index);
  }
}

// Quants written one by one are read back, and the neighbours keep theirs.
TEST(Textbook, QuantsSurviveWritingAndReading) {
  struct Case {
    TensorType type;
    std::size_t bytes;
    int lowest, count;
  };
  for (const Case& one : {Case{TensorType::kQ8_0, 8 * 34, -127, 255},
                          {TensorType::kQ4_K, 144, 0, 16},
                          {TensorType::kQ5_K, 176, 0, 32},
                          {TensorType::kQ6_K, 210, -32, 64}}) {
    std::vector<std::byte> block(one.bytes, std::byte{0x3c});  // Scales that are finite and not 0.
    const auto quant = [&](std::size_t i) {
      return one.lowest + static_cast<int>(7 * i) % one.count;
    };
    for (std::size_t i = 0; i < 256; ++i) textbook::set_quant(one.type, block.data(), i, quant(i));
    for (std::size_t i = 0; i < 256; ++i) {
      const auto [step, offset] = textbook::steps(one.type, block.data(), i);
      ASSERT_NE(step, 0.0);
      EXPECT_EQ(textbook::element(one.type, block.data(), i).value, step * quant(i) - offset)
          << tensor_type_info(one.type).name << " " << i;
    }
  }
}

}  // namespace
}  // namespace refute
