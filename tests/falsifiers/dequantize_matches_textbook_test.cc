#include "falsifiers/dequantize_matches_textbook.h"

#include <gtest/gtest.h>

#include <functional>
#include <vector>

#include "tests/falsifiers/broken_backend.h"
#include "tests/falsifiers/falsifier_expectations.h"

namespace refute {
namespace {

TEST(DequantizeMatchesTextbook, HoldsOnTheReference) {
  expect_held(dequantize_matches_textbook_info());
}

using Change = std::function<void(std::vector<std::byte>& bytes, std::size_t block)>;

// Reads blocks of `type` after a change of their bytes: what a decoder with that fault sees.
BrokenBackend decoder_with(TensorType type, const Change& change) {
  BrokenBackend broken;
  broken.embed_fault = [=](const Backend& real, const WeightView& weight,
                           std::span<const std::int32_t> tokens) {
    if (weight.type != type) return real.embed(weight, tokens);
    std::vector<std::byte> bytes(weight.data, weight.data + weight.bytes());
    const std::size_t block_bytes = tensor_type_info(type).block_bytes;
    for (std::size_t block = 0; block < bytes.size(); block += block_bytes) change(bytes, block);
    return real.embed({type, weight.rows, weight.columns, bytes.data()}, tokens);
  };
  return broken;
}

TEST(DequantizeMatchesTextbook, RefutesExchangedNibbles) {
  const auto broken = decoder_with(TensorType::kQ4_K, [](auto& bytes, std::size_t block) {
    for (std::size_t i = block + 16; i < block + 144; ++i)
      bytes[i] = (bytes[i] << 4) | (bytes[i] >> 4);
  });
  expect_refuted(dequantize_matches_textbook_info(), broken, "differing_elements");
}

TEST(DequantizeMatchesTextbook, RefutesHighBitsOfScalesDropped) {
  const auto broken = decoder_with(TensorType::kQ5_K, [](auto& bytes, std::size_t block) {
    for (std::size_t i = block + 4; i < block + 8; ++i) bytes[i] &= std::byte{0x3f};
  });
  expect_refuted(dequantize_matches_textbook_info(), broken, "differing_elements");
}

TEST(DequantizeMatchesTextbook, RefutesScaleAndMinimumExchanged) {
  const auto broken = decoder_with(TensorType::kQ4_K, [](auto& bytes, std::size_t block) {
    for (std::size_t i = block; i < block + 2; ++i) std::swap(bytes[i], bytes[i + 2]);
  });
  expect_refuted(dequantize_matches_textbook_info(), broken, "differing_elements");
}

TEST(DequantizeMatchesTextbook, RefutesUnsignedScales) {
  const auto broken = decoder_with(TensorType::kQ6_K, [](auto& bytes, std::size_t block) {
    for (std::size_t i = block + 192; i < block + 208; ++i) bytes[i] &= std::byte{0x7f};
  });
  expect_refuted(dequantize_matches_textbook_info(), broken, "differing_elements");
}

TEST(DequantizeMatchesTextbook, RefutesOneByteValueAtOnePlace) {
  const auto broken = decoder_with(TensorType::kQ8_0, [](auto& bytes, std::size_t block) {
    if (bytes[block + 20] == std::byte{0x80}) bytes[block + 20] = std::byte{0x81};
  });
  expect_refuted(dequantize_matches_textbook_info(), broken, "differing_elements");
}

TEST(DequantizeMatchesTextbook, RefutesSubnormalsFlushedToZero) {
  const auto broken = decoder_with(TensorType::kF16, [](auto& bytes, std::size_t element) {
    if ((bytes[element + 1] & std::byte{0x7c}) == std::byte{0})
      bytes[element] = bytes[element + 1] = std::byte{0};
  });
  expect_refuted(dequantize_matches_textbook_info(), broken, "differing_elements");
}

TEST(DequantizeMatchesTextbook, RefutesExchangedNibblesByEncodingAgain) {
  const auto broken = decoder_with(TensorType::kQ6_K, [](auto& bytes, std::size_t block) {
    for (std::size_t i = block; i < block + 128; ++i) bytes[i] = (bytes[i] << 4) | (bytes[i] >> 4);
  });
  expect_refuted(dequantize_matches_textbook_info(), broken, "changed_bytes");
}

}  // namespace
}  // namespace refute
