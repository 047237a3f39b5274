#include "falsifiers/textbook.h"

#include <cmath>
#include <limits>

#include "kernels/check.h"

namespace refute::textbook {
namespace {

unsigned byte_at(const std::byte* bytes, std::size_t index) {
  return std::to_integer<unsigned>(bytes[index]);
}

int signed_byte(const std::byte* bytes, std::size_t index) {
  const int value = static_cast<int>(byte_at(bytes, index));
  return value < 128 ? value : value - 256;
}

// Little-endian.
std::uint32_t word(const std::byte* bytes, std::size_t count) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < count; ++i) value |= byte_at(bytes, i) << (8 * i);
  return value;
}

// Sign, exponent and mantissa of an IEEE binary format.
double ieee(std::uint32_t bits, int exponent_bits, int mantissa_bits) {
  const int sign = static_cast<int>(bits >> (exponent_bits + mantissa_bits)) & 1;
  const int all_ones = (1 << exponent_bits) - 1;
  const int exponent = static_cast<int>(bits >> mantissa_bits) & all_ones;
  const int mantissa = static_cast<int>(bits & ((1u << mantissa_bits) - 1));
  const int bias = (1 << (exponent_bits - 1)) - 1;
  double magnitude = 0.0;
  if (exponent == all_ones) {
    magnitude = mantissa == 0 ? std::numeric_limits<double>::infinity()
                              : std::numeric_limits<double>::quiet_NaN();
  } else if (exponent == 0) {
    magnitude = std::ldexp(mantissa, 1 - bias - mantissa_bits);
  } else {
    magnitude = std::ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
  }
  return sign == 1 ? -magnitude : magnitude;
}

Element product(double d, int scale, int quant) {
  const double value = d * scale * quant;
  return {value, std::abs(value)};
}

// Bits [start, start + 6) of the packed scales are not contiguous for sub-blocks 4 to 7: the low
// four bits stand in bytes 8 to 11, the high two at the top of bytes 0 to 7.
constexpr std::size_t kScaleLow = 0, kMinLow = 4, kBoth = 8;

Element q8_0(const std::byte* block, std::size_t i) {
  return product(half(static_cast<std::uint16_t>(word(block, 2))), 1, signed_byte(block, 2 + i));
}

// Q4_K and Q5_K: eight sub-blocks of 32; pairs of sub-blocks share 32 bytes of nibbles.
Element q45_k(const std::byte* block, std::size_t i, bool five_bits) {
  const double d = half(static_cast<std::uint16_t>(word(block, 2)));
  const double dmin = half(static_cast<std::uint16_t>(word(block + 2, 2)));
  const std::size_t sub_block = i / 32;
  const std::size_t lane = i % 32;
  const ScaleMin packed = scale_min(std::span<const std::byte, 12>(block + 4, 12), sub_block);
  const std::byte* nibbles = block + (five_bits ? 48 : 16);
  const unsigned pair = byte_at(nibbles, sub_block / 2 * 32 + lane);
  unsigned quant = sub_block % 2 == 0 ? pair % 16 : pair / 16;
  if (five_bits) quant += 16 * ((byte_at(block + 16, lane) >> sub_block) % 2);
  const double positive = d * packed.scale * quant;
  const double negative = dmin * packed.min;
  return {positive - negative, std::abs(positive) + std::abs(negative)};
}

// Q6_K: two halves of 128; within a half, quarters of 32.
Element q6_k(const std::byte* block, std::size_t i) {
  const std::size_t half_index = i / 128;
  const std::size_t quarter = i % 128 / 32;
  const std::size_t lane = i % 32;
  const unsigned low_pair = byte_at(block, half_index * 64 + quarter % 2 * 32 + lane);
  const unsigned low = quarter < 2 ? low_pair % 16 : low_pair / 16;
  const unsigned high = (byte_at(block, 128 + half_index * 32 + lane) >> (2 * quarter)) % 4;
  const int quant = static_cast<int>(low + 16 * high) - 32;
  const double d = half(static_cast<std::uint16_t>(word(block + 208, 2)));
  return product(d, signed_byte(block, 192 + i / 16), quant);
}

}  // namespace

double half(std::uint16_t bits) { return ieee(bits, 5, 10); }

ScaleMin scale_min(std::span<const std::byte, 12> packed, std::size_t index) {
  CHECK(index < 8);
  const std::byte* bytes = packed.data();
  if (index < 4) {
    return {byte_at(bytes, kScaleLow + index) % 64, byte_at(bytes, kMinLow + index) % 64};
  }
  const std::size_t place = index - 4;
  const unsigned low = byte_at(bytes, kBoth + place);
  const unsigned scale_high = byte_at(bytes, kScaleLow + place) / 64;
  const unsigned min_high = byte_at(bytes, kMinLow + place) / 64;
  return {low % 16 + 16 * scale_high, low / 16 + 16 * min_high};
}

void set_scale_min(std::span<std::byte, 12> packed, std::size_t index, ScaleMin value) {
  CHECK(index < 8 && value.scale < 64 && value.min < 64);
  const auto put = [&](std::size_t place, unsigned mask, unsigned bits) {
    packed[place] = static_cast<std::byte>((byte_at(packed.data(), place) & ~mask) | bits);
  };
  if (index < 4) {
    put(kScaleLow + index, 63, value.scale);
    put(kMinLow + index, 63, value.min);
    return;
  }
  const std::size_t place = index - 4;
  put(kBoth + place, 255, value.scale % 16 + 16 * (value.min % 16));
  put(kScaleLow + place, 192, value.scale / 16 * 64);
  put(kMinLow + place, 192, value.min / 16 * 64);
}

Element element(TensorType type, const std::byte* row, std::size_t column) {
  switch (type) {
    case TensorType::kF32: {
      const double value = ieee(word(row + 4 * column, 4), 8, 23);
      return {value, std::abs(value)};
    }
    case TensorType::kF16: {
      const double value = ieee(word(row + 2 * column, 2), 5, 10);
      return {value, std::abs(value)};
    }
    case TensorType::kBF16: {
      const double value = ieee(word(row + 2 * column, 2), 8, 7);
      return {value, std::abs(value)};
    }
    case TensorType::kQ8_0:
      return q8_0(row + column / 32 * 34, column % 32);
    case TensorType::kQ4_K:
      return q45_k(row + column / 256 * 144, column % 256, false);
    case TensorType::kQ5_K:
      return q45_k(row + column / 256 * 176, column % 256, true);
    case TensorType::kQ6_K:
      return q6_k(row + column / 256 * 210, column % 256);
    default:
      break;
  }
  CHECK(false && "a weight type");
  return {};
}

void set_quant(TensorType type, std::byte* row, std::size_t column, int quant) {
  const auto put = [](std::byte* byte, unsigned shift, unsigned width, unsigned value) {
    const unsigned mask = ((1u << width) - 1) << shift;
    *byte = static_cast<std::byte>((byte_at(byte, 0) & ~mask) | (value << shift & mask));
  };
  if (type == TensorType::kQ8_0) {
    CHECK(quant >= -127 && quant <= 127);
    row[column / 32 * 34 + 2 + column % 32] = static_cast<std::byte>(quant);
    return;
  }
  const std::size_t i = column % 256;
  const auto lane = i % 32;
  if (type == TensorType::kQ6_K) {
    CHECK(quant >= -32 && quant <= 31);
    std::byte* block = row + column / 256 * 210;
    const auto value = static_cast<unsigned>(quant + 32);
    const std::size_t half_index = i / 128;
    const auto quarter = static_cast<unsigned>(i % 128 / 32);
    put(block + half_index * 64 + quarter % 2 * 32 + lane, quarter < 2 ? 0 : 4, 4, value % 16);
    put(block + 128 + half_index * 32 + lane, 2 * quarter, 2, value / 16);
    return;
  }
  const bool five_bits = type == TensorType::kQ5_K;
  CHECK((five_bits || type == TensorType::kQ4_K) && quant >= 0 && quant < (five_bits ? 32 : 16));
  std::byte* block = row + column / 256 * (five_bits ? 176 : 144);
  const auto value = static_cast<unsigned>(quant);
  const auto sub_block = static_cast<unsigned>(i / 32);
  put(block + (five_bits ? 48 : 16) + sub_block / 2 * 32 + lane, sub_block % 2 == 0 ? 0 : 4, 4,
      value % 16);
  if (five_bits) put(block + 16 + lane, sub_block, 1, value / 16);
}

Steps steps(TensorType type, const std::byte* row, std::size_t column) {
  if (type == TensorType::kQ8_0) {
    return {half(static_cast<std::uint16_t>(word(row + column / 32 * 34, 2))), 0.0};
  }
  if (type == TensorType::kQ6_K) {
    const std::byte* block = row + column / 256 * 210;
    const double d = half(static_cast<std::uint16_t>(word(block + 208, 2)));
    return {d * signed_byte(block, 192 + column % 256 / 16), 0.0};
  }
  const bool five_bits = type == TensorType::kQ5_K;
  CHECK(five_bits || type == TensorType::kQ4_K);
  const std::byte* block = row + column / 256 * (five_bits ? 176 : 144);
  const ScaleMin packed =
      scale_min(std::span<const std::byte, 12>(block + 4, 12), column % 256 / 32);
  return {half(static_cast<std::uint16_t>(word(block, 2))) * packed.scale,
          half(static_cast<std::uint16_t>(word(block + 2, 2))) * packed.min};
}

}  // namespace refute::textbook
