// Inputs for op-level falsifiers, drawn through a PropertyCase. Every number is a float32 value
// held in float64, so that it reaches every backend bit for bit.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "falsifiers/owned_weights.h"
#include "falsifiers/property.h"
#include "kernels/matrix.h"
#include "kernels/quant/tensor_type.h"

namespace refute {

enum class ActivationKind {
  kNormal,       // Mean 0, standard deviation 1.
  kOutlier,      // One channel at 26 times the others.
  kZeroRows,     // Every other row is 0.
  kNegativeMax,  // The largest magnitude of each block of 32 is negative; one block is constant.
  kTiny,         // Around 1e-30.
  kTies,         // Multiples of half a quantization step: x / d ends in .5 exactly.
};
inline constexpr std::array<ActivationKind, 6> kActivationKinds = {
    ActivationKind::kNormal,      ActivationKind::kOutlier, ActivationKind::kZeroRows,
    ActivationKind::kNegativeMax, ActivationKind::kTiny,    ActivationKind::kTies};
std::string_view activation_kind_name(ActivationKind kind);

Matrix<double> make_activations(ActivationKind kind, std::size_t rows, std::size_t columns,
                                std::uint64_t seed);
// The same values rounded to float16.
Matrix<double> make_half_activations(std::size_t rows, std::size_t columns, std::uint64_t seed);
// Mean 1, standard deviation 1/8: the gain of a norm.
std::vector<float> make_gain(std::size_t size, std::uint64_t seed);

Matrix<double> draw_activations(PropertyCase& property_case, std::size_t rows, std::size_t columns);
TensorType draw_type(PropertyCase& property_case, std::string_view name,
                     std::span<const TensorType> types);
WeightKind draw_weight_kind(PropertyCase& property_case);
OwnedWeight draw_weight(PropertyCase& property_case, std::size_t rows, std::size_t columns,
                        TensorType type);
// A multiple of the block size of `type`: up to 9 super-blocks, pinned ones included.
std::size_t draw_columns(PropertyCase& property_case, TensorType type);

// What router logits are like. kGrid has many exact ties and shrinks number by number.
enum class LogitKind { kGrid, kNormal, kNearTies, kAllEqual, kHugeSpread };

struct DrawnLogits {
  Matrix<double> logits;  // [num_tokens, num_experts]
  std::size_t k = 1;      // num_experts_per_tok
};
// num_experts from 1 to 256, k of 1, 8 and num_experts among others.
DrawnLogits draw_logits(PropertyCase& property_case);
// The same without ties or near ties: logits of different experts differ by 2^-8 or more, at most
// 16 from 0. Multiples of 2^-8, at least `least_experts` of them.
DrawnLogits draw_distinct_logits(PropertyCase& property_case, std::size_t least_experts);

// A MoE block: mostly narrow ones with up to 256 experts, some of K-quants with up to 4.
OwnedLayer draw_layer(PropertyCase& property_case);

// Permutation of [0, count).
std::vector<std::size_t> make_permutation(std::size_t count, std::uint64_t seed);

// Softmax of one row in float64: the closed form that router falsifiers compare with.
std::vector<double> softmax(std::span<const double> logits);

}  // namespace refute
