#include "falsifiers/owned_weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "falsifiers/seeded_random.h"
#include "kernels/quant/blocks.h"
#include "kernels/quant/half.h"

namespace refute {
namespace {

constexpr std::uint16_t kHalfNan = 0x7e00;

template <typename T>
T load(const std::byte* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}

template <typename T>
void store(std::byte* bytes, T value) {
  std::memcpy(bytes, &value, sizeof(T));
}

void fill_random(std::span<std::byte> bytes, SeededRandom* random) {
  for (std::size_t i = 0; i < bytes.size(); i += sizeof(std::uint64_t)) {
    const std::uint64_t value = random->next();
    std::memcpy(bytes.data() + i, &value, std::min(sizeof(value), bytes.size() - i));
  }
}

void store_float(TensorType type, std::byte* bytes, float value) {
  if (type == TensorType::kF32) {
    store(bytes, value);
  } else if (type == TensorType::kF16) {
    store(bytes, half_from_float(value));
  } else {
    store(bytes, bfloat16_from_float(value));
  }
}

float load_float(TensorType type, const std::byte* bytes) {
  if (type == TensorType::kF32) return load<float>(bytes);
  const auto bits = load<std::uint16_t>(bytes);
  return type == TensorType::kF16 ? float_from_half(bits) : float_from_bfloat16(bits);
}

// The d that gives elements of a block with random quants the standard deviation `deviation`, from
// the root mean square of scale times quant.
float plain_scale(TensorType type, double deviation) {
  switch (type) {
    case TensorType::kQ8_0:
      return static_cast<float>(deviation / 74.0);
    case TensorType::kQ4_K:
      return static_cast<float>(deviation / 260.0);
    case TensorType::kQ5_K:
      return static_cast<float>(deviation / 530.0);
    default:
      return static_cast<float>(deviation / 1370.0);
  }
}

// The middle of the quants: dmin * min balances d * scale * middle.
float middle_quant(TensorType type) { return type == TensorType::kQ4_K ? 7.5f : 15.5f; }

// The places of the scales of sub-blocks; empty for Q8_0.
std::span<std::byte> sub_scales(TensorType type, std::span<std::byte> block) {
  if (type == TensorType::kQ8_0) return {};
  if (type == TensorType::kQ6_K) return block.subspan(192, 16);
  return block.subspan(4, 12);
}

// Sets a bit in each scale, so that every quant counts. Bytes 4 to 7 of Q4_K and Q5_K, which hold
// minimums, get it too.
void keep_scales_from_zero(std::span<std::byte> scales) {
  for (std::byte& scale : scales) scale |= std::byte{0x08};
}

// The quants of every element at the end of their range.
void fill_extreme(TensorType type, bool highest, std::span<std::byte> block) {
  std::ranges::fill(block, highest ? std::byte{0xff} : std::byte{0x00});
  if (type == TensorType::kQ8_0) {
    std::ranges::fill(block, highest ? std::byte{0x7f} : std::byte{0x81});
    return;
  }
  const auto scales = sub_scales(type, block);
  const bool signed_scales = type == TensorType::kQ6_K;
  std::ranges::fill(
      scales, signed_scales ? (highest ? std::byte{0x7f} : std::byte{0x80}) : std::byte{0xff});
}

void fill_block(TensorType type, std::size_t columns, WeightKind kind, std::span<std::byte> block,
                SeededRandom* random) {
  if (kind == WeightKind::kAllLowest || kind == WeightKind::kAllHighest) {
    fill_extreme(type, kind == WeightKind::kAllHighest, block);
  } else {
    fill_random(block, random);
  }
  if (kind == WeightKind::kPlain) keep_scales_from_zero(sub_scales(type, block));
  const double deviation = 1.0 / std::sqrt(static_cast<double>(columns));
  float d = plain_scale(type, deviation) * static_cast<float>(random->uniform(0.7, 1.4));
  float dmin = d * middle_quant(type) * static_cast<float>(random->uniform(0.9, 1.1));
  if (kind == WeightKind::kNegativeScales) d = -d, dmin = -dmin;
  if (kind == WeightKind::kSubnormalScales) {
    d = static_cast<float>(1 + random->below(1023)) * 0x1p-24f;
    dmin = static_cast<float>(1 + random->below(1023)) * 0x1p-24f;
  }
  const auto offsets = scale_offsets(type);
  store(block.data() + offsets[0], half_from_float(d));
  if (offsets.size() > 1) store(block.data() + offsets[1], half_from_float(dmin));
}

// Elements that are stored as floats, uniform in +-sqrt(3 / columns) where the kind is plain.
void fill_floats(TensorType type, std::size_t columns, WeightKind kind, std::span<std::byte> bytes,
                 SeededRandom* random) {
  const std::size_t size = tensor_type_info(type).block_bytes;
  const double bound = std::sqrt(3.0 / static_cast<double>(columns));
  std::uint64_t bits = 0;
  for (std::size_t offset = 0; offset < bytes.size(); offset += size) {
    // Two elements from each number.
    bits = offset / size % 2 == 0 ? random->next() : bits >> 32;
    double value = bound * 0x1p-31 * static_cast<std::int32_t>(bits);
    if (kind == WeightKind::kNegativeScales) value = -std::abs(value);
    if (kind == WeightKind::kSubnormalScales) value *= 0x1p-14;
    if (kind == WeightKind::kAllLowest) value = -1.0;
    if (kind == WeightKind::kAllHighest) value = 1.0;
    store_float(type, bytes.data() + offset, static_cast<float>(value));
  }
}

void fill_rows(TensorType type, std::size_t columns, WeightKind kind, std::span<std::byte> bytes,
               SeededRandom* random) {
  const TensorTypeInfo& info = tensor_type_info(type);
  if (!info.is_quantized) return fill_floats(type, columns, kind, bytes, random);
  for (std::size_t offset = 0; offset < bytes.size(); offset += info.block_bytes) {
    fill_block(type, columns, kind, bytes.subspan(offset, info.block_bytes), random);
  }
}

}  // namespace

std::span<std::byte> OwnedStack::expert_bytes(std::size_t expert) {
  CHECK(expert < num_experts);
  const std::size_t size = view().bytes_per_expert();
  return std::span(bytes).subspan(expert * size, size);
}

LayerWeights OwnedLayer::view() const {
  LayerWeights layer;
  layer.router = router.view();
  layer.gate_proj = gate_proj.view();
  layer.up_proj = up_proj.view();
  layer.down_proj = down_proj.view();
  return layer;
}

std::string_view weight_kind_name(WeightKind kind) {
  switch (kind) {
    case WeightKind::kPlain:
      return "plain";
    case WeightKind::kNegativeScales:
      return "negative scales";
    case WeightKind::kSubnormalScales:
      return "subnormal scales";
    case WeightKind::kAllLowest:
      return "all lowest";
    case WeightKind::kAllHighest:
      return "all highest";
  }
  return "unknown";
}

OwnedWeight make_weight(TensorType type, std::size_t rows, std::size_t columns, WeightKind kind,
                        std::uint64_t seed) {
  CHECK(columns % tensor_type_info(type).block_size == 0);
  OwnedWeight weight{type, rows, columns, std::vector<std::byte>(rows * row_bytes(type, columns))};
  SeededRandom random(mix_seed(seed, 1));
  fill_rows(type, columns, kind, weight.bytes, &random);
  return weight;
}

OwnedStack make_stack(TensorType type, std::size_t num_experts, std::size_t rows,
                      std::size_t columns, std::uint64_t seed) {
  OwnedWeight all = make_weight(type, num_experts * rows, columns, WeightKind::kPlain, seed);
  return {type, num_experts, rows, columns, std::move(all.bytes)};
}

OwnedLayer make_layer(const LayerShape& shape, std::uint64_t seed) {
  OwnedLayer layer;
  layer.config.hidden_size = shape.hidden_size;
  layer.config.moe_intermediate_size = shape.moe_intermediate_size;
  layer.config.num_experts = shape.num_experts;
  layer.config.num_experts_per_tok = shape.num_experts_per_tok;
  layer.config.norm_topk_prob = shape.norm_topk_prob;
  layer.router = make_weight(shape.router, shape.num_experts, shape.hidden_size, WeightKind::kPlain,
                             mix_seed(seed, 2));
  layer.gate_proj = make_stack(shape.gate_proj, shape.num_experts, shape.moe_intermediate_size,
                               shape.hidden_size, mix_seed(seed, 3));
  layer.up_proj = make_stack(shape.up_proj, shape.num_experts, shape.moe_intermediate_size,
                             shape.hidden_size, mix_seed(seed, 4));
  layer.down_proj = make_stack(shape.down_proj, shape.num_experts, shape.hidden_size,
                               shape.moe_intermediate_size, mix_seed(seed, 5));
  return layer;
}

OwnedWeight store_f32(std::size_t rows, std::size_t columns, std::span<const float> values) {
  CHECK(values.size() == rows * columns);
  OwnedWeight weight{TensorType::kF32, rows, columns,
                     std::vector<std::byte>(values.size() * sizeof(float))};
  std::memcpy(weight.bytes.data(), values.data(), weight.bytes.size());
  return weight;
}

std::span<const std::size_t> scale_offsets(TensorType type) {
  static constexpr std::array<std::size_t, 1> kFirst = {0};
  static constexpr std::array<std::size_t, 2> kFirstTwo = {0, 2};
  static constexpr std::array<std::size_t, 1> kLast = {208};
  switch (type) {
    case TensorType::kQ8_0:
      return kFirst;
    case TensorType::kQ4_K:
    case TensorType::kQ5_K:
      return kFirstTwo;
    case TensorType::kQ6_K:
      return kLast;
    default:
      return {};
  }
}

void multiply_scales(TensorType type, std::span<std::byte> rows, float factor) {
  const TensorTypeInfo& info = tensor_type_info(type);
  for (std::size_t offset = 0; offset < rows.size(); offset += info.block_bytes) {
    std::byte* block = rows.data() + offset;
    if (!info.is_quantized) {
      store_float(type, block, load_float(type, block) * factor);
      continue;
    }
    for (const std::size_t place : scale_offsets(type)) {
      const float scale = float_from_half(load<std::uint16_t>(block + place));
      store(block + place, half_from_float(scale * factor));
    }
  }
}

void poison_with_nan(TensorType type, std::span<std::byte> rows) {
  const TensorTypeInfo& info = tensor_type_info(type);
  for (std::size_t offset = 0; offset < rows.size(); offset += info.block_bytes) {
    std::byte* block = rows.data() + offset;
    if (!info.is_quantized) store_float(type, block, std::nanf(""));
    for (const std::size_t place : scale_offsets(type)) store(block + place, kHalfNan);
  }
}

}  // namespace refute
