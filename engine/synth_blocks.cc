// The block statistics follow the script that made the oracle packs: scales spread by 40 % around
// the value that gives the deviation, minimums that centre each sub-block near 0.

#include "engine/synth_blocks.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/check.h"
#include "kernels/quant/blocks.h"
#include "kernels/quant/half.h"

namespace refute {
namespace {

// The output function of splitmix64 (Steele, Lea and Flood, 2014).
std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// FNV-1a.
std::uint64_t hash(std::string_view text) {
  std::uint64_t value = 0xcbf29ce484222325u;
  for (const char c : text) value = (value ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return value;
}

std::uint16_t half_of(double value) { return half_from_float(static_cast<float>(value)); }

template <std::size_t kBytes>
void fill_bytes(RowRandom& random, std::uint8_t (&bytes)[kBytes]) {
  static_assert(kBytes % 8 == 0);
  for (std::size_t i = 0; i < kBytes; i += 8) {
    const std::uint64_t word = random.next();
    std::memcpy(bytes + i, &word, 8);
  }
}

// Eight integers in [0, count), from 16 bits each.
void fill_below(RowRandom& random, unsigned count, unsigned (&values)[8]) {
  for (int i = 0; i < 8; i += 4) {
    std::uint64_t word = random.next();
    for (int j = 0; j < 4; ++j, word >>= 16) {
      values[i + j] = (static_cast<unsigned>(word & 0xffffu) * count) >> 16;
    }
  }
}

BlockQ8_0 random_block_q8_0(double deviation, RowRandom& random) {
  BlockQ8_0 block;
  block.d = half_of(deviation / 73.0 * random.uniform(0.6, 1.4));
  std::uint8_t bytes[32];
  fill_bytes(random, bytes);
  for (int i = 0; i < 32; ++i) {
    block.q[i] = static_cast<std::int8_t>(std::max(static_cast<int>(bytes[i]) - 128, -127));
  }
  return block;
}

// d, dmin and scales, which Q4_K and Q5_K share; q lies in [0, levels).
template <typename Block>
void fill_scales(double deviation, double levels, RowRandom& random, Block& block) {
  const double d = deviation / (41.0 * levels / std::sqrt(12.0)) * random.uniform(0.6, 1.4);
  block.d = half_of(d);
  const double middle = (levels - 1.0) / 2.0;
  block.dmin =
      half_of(static_cast<double>(float_from_half(block.d)) * middle * random.uniform(0.95, 1.05));
  unsigned scales[8];
  unsigned offsets[8];
  fill_below(random, 48, scales);
  fill_below(random, 13, offsets);
  ScaleMin sub_blocks[8];
  for (int j = 0; j < 8; ++j) {
    const int scale = static_cast<int>(scales[j]) + 16;
    const int min = std::clamp(scale + static_cast<int>(offsets[j]) - 6, 0, 63);
    sub_blocks[j] = {static_cast<std::uint8_t>(scale), static_cast<std::uint8_t>(min)};
  }
  pack_scale_min(sub_blocks, block.scales);
}

BlockQ4K random_block_q4_k(double deviation, RowRandom& random) {
  BlockQ4K block;
  fill_scales(deviation, 16.0, random, block);
  fill_bytes(random, block.q);
  return block;
}

BlockQ5K random_block_q5_k(double deviation, RowRandom& random) {
  BlockQ5K block;
  fill_scales(deviation, 32.0, random, block);
  fill_bytes(random, block.q_high);
  fill_bytes(random, block.q);
  return block;
}

BlockQ6K random_block_q6_k(double deviation, RowRandom& random) {
  BlockQ6K block;
  fill_bytes(random, block.q_low);
  fill_bytes(random, block.q_high);
  std::uint8_t scales[16];
  fill_bytes(random, scales);
  for (int i = 0; i < 16; ++i) {
    const int scale = static_cast<int>(scales[i]) - 128;
    block.scales[i] = static_cast<std::int8_t>(std::abs(scale) < 16 ? 40 : scale);
  }
  block.d = half_of(deviation / (18.5 * 80.0) * random.uniform(0.6, 1.4));
  return block;
}

template <typename Make>
void fill_with(std::span<std::byte> row, Make make) {
  using Item = decltype(make());
  CHECK(row.size() % sizeof(Item) == 0);
  for (std::size_t i = 0; i < row.size(); i += sizeof(Item)) {
    const Item item = make();
    std::memcpy(row.data() + i, &item, sizeof(Item));
  }
}

// Elements of a floating-point type, each from one call of `value`.
template <typename Value>
void fill_floats(TensorType type, std::span<std::byte> row, Value value) {
  const auto as_float = [&] { return static_cast<float>(value()); };
  switch (type) {
    case TensorType::kF32:
      return fill_with(row, as_float);
    case TensorType::kF16:
      return fill_with(row, [&] { return half_from_float(as_float()); });
    case TensorType::kBF16:
      return fill_with(row, [&] { return bfloat16_from_float(as_float()); });
    default:
      CHECK(false);
  }
}

}  // namespace

RowRandom::RowRandom(std::uint64_t seed, std::string_view tensor, std::uint64_t row)
    : state_(mix(mix(mix(seed) ^ hash(tensor)) + row)) {}

std::uint64_t RowRandom::next() {
  state_ += 0x9e3779b97f4a7c15u;
  return mix(state_);
}

double RowRandom::uniform(double low, double high) {
  return low + (high - low) * (static_cast<double>(next() >> 11) * 0x1p-53);
}

double RowRandom::normal() {
  const std::uint64_t word = next();
  const auto sum = static_cast<int>((word & 0xffffu) + ((word >> 16) & 0xffffu) +
                                    ((word >> 32) & 0xffffu) + (word >> 48));
  // Four uniform integers below 2^16: mean 4 * 32767.5, variance 4 * 2^32 / 12.
  return (sum - 131070) * (std::sqrt(3.0) * 0x1p-16);
}

void fill_weight_row(TensorType type, double deviation, RowRandom& random,
                     std::span<std::byte> row) {
  switch (type) {
    case TensorType::kF32:
    case TensorType::kF16:
    case TensorType::kBF16:
      return fill_floats(type, row, [&] { return deviation * random.normal(); });
    case TensorType::kQ8_0:
      return fill_with(row, [&] { return random_block_q8_0(deviation, random); });
    case TensorType::kQ4_K:
      return fill_with(row, [&] { return random_block_q4_k(deviation, random); });
    case TensorType::kQ5_K:
      return fill_with(row, [&] { return random_block_q5_k(deviation, random); });
    case TensorType::kQ6_K:
      return fill_with(row, [&] { return random_block_q6_k(deviation, random); });
    case TensorType::kI32:
    case TensorType::kF64:
      break;
  }
  CHECK(false);
}

void fill_norm_row(TensorType type, RowRandom& random, std::span<std::byte> row) {
  fill_floats(type, row, [&] { return 1.0 + 0.2 * random.normal(); });
}

}  // namespace refute
