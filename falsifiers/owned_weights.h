// Stored weights that own their bytes, and their making from a seed: what a file would hold, for
// falsifiers that need weights of their own.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "engine/config.h"
#include "engine/model.h"
#include "kernels/quant/dequantize.h"
#include "kernels/quant/tensor_type.h"

namespace refute {

inline constexpr std::array<TensorType, 7> kWeightTypes = {
    TensorType::kF32,  TensorType::kF16,  TensorType::kBF16, TensorType::kQ8_0,
    TensorType::kQ4_K, TensorType::kQ5_K, TensorType::kQ6_K};
inline constexpr std::array<TensorType, 4> kQuantizedTypes = {TensorType::kQ8_0, TensorType::kQ4_K,
                                                              TensorType::kQ5_K, TensorType::kQ6_K};
// Those whose blocks are at most 32 elements: for narrow matrices.
inline constexpr std::array<TensorType, 4> kNarrowTypes = {TensorType::kF32, TensorType::kF16,
                                                           TensorType::kBF16, TensorType::kQ8_0};

struct OwnedWeight {
  TensorType type = TensorType::kF32;
  std::size_t rows = 0;
  std::size_t columns = 0;
  std::vector<std::byte> bytes;

  WeightView view() const { return {type, rows, columns, bytes.data()}; }
};

struct OwnedStack {
  TensorType type = TensorType::kF32;
  std::size_t num_experts = 0;
  std::size_t rows = 0;
  std::size_t columns = 0;
  std::vector<std::byte> bytes;

  ExpertStack view() const { return {type, num_experts, rows, columns, bytes}; }
  WeightView expert(std::size_t expert) const { return view().expert(expert); }
  std::span<std::byte> expert_bytes(std::size_t expert);
};

// The weights of one MoE block, and the part of a configuration that it reads.
struct OwnedLayer {
  Config config;
  OwnedWeight router;  // [num_experts, hidden_size]
  OwnedStack gate_proj;
  OwnedStack up_proj;
  OwnedStack down_proj;

  LayerWeights view() const;  // Borrows.
};

// What the blocks of a weight are like. kPlain weights have mean 0 and a standard deviation near
// 1 / sqrt(columns), so that products of unit activations stay near 1.
enum class WeightKind {
  kPlain,
  kNegativeScales,   // d (and half of the signed scales of Q6_K) negative.
  kSubnormalScales,  // d and dmin are float16 subnormals.
  kAllLowest,        // Every stored quant is its lowest value, every scale its highest.
  kAllHighest,
};
inline constexpr std::array<WeightKind, 5> kWeightKinds = {
    WeightKind::kPlain, WeightKind::kNegativeScales, WeightKind::kSubnormalScales,
    WeightKind::kAllLowest, WeightKind::kAllHighest};
std::string_view weight_kind_name(WeightKind kind);

// Preconditions: a weight type, columns a multiple of its block size.
OwnedWeight make_weight(TensorType type, std::size_t rows, std::size_t columns, WeightKind kind,
                        std::uint64_t seed);
OwnedStack make_stack(TensorType type, std::size_t num_experts, std::size_t rows,
                      std::size_t columns, std::uint64_t seed);

struct LayerShape {
  std::size_t hidden_size = 32;
  std::size_t moe_intermediate_size = 32;
  std::size_t num_experts = 1;
  std::size_t num_experts_per_tok = 1;
  bool norm_topk_prob = true;
  TensorType router = TensorType::kF32;
  TensorType gate_proj = TensorType::kF32;
  TensorType up_proj = TensorType::kF32;
  TensorType down_proj = TensorType::kF32;
};
OwnedLayer make_layer(const LayerShape& shape, std::uint64_t seed);

// float32 values stored as F32.
OwnedWeight store_f32(std::size_t rows, std::size_t columns, std::span<const float> values);

// Where the float16 scales stand in a block of a quantized type: byte offsets, d first.
std::span<const std::size_t> scale_offsets(TensorType type);
// Multiplies every float16 scale of stored rows of a quantized type, or every element of a float
// type, and rounds to the stored format.
void multiply_scales(TensorType type, std::span<std::byte> rows, float factor);
// Makes every row NaN: the scales of quantized types, the elements of float types.
void poison_with_nan(TensorType type, std::span<std::byte> rows);

}  // namespace refute
