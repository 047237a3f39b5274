#include "falsifiers/generators.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <utility>

#include "falsifiers/seeded_random.h"
#include "kernels/quant/half.h"

namespace refute {
namespace {

double as_float(double value) { return static_cast<double>(static_cast<float>(value)); }

constexpr std::array<LogitKind, 5> kLogitKinds = {LogitKind::kGrid, LogitKind::kNormal,
                                                  LogitKind::kNearTies, LogitKind::kAllEqual,
                                                  LogitKind::kHugeSpread};

std::string logit_kind_name(LogitKind kind) {
  switch (kind) {
    case LogitKind::kGrid:
      return "grid";
    case LogitKind::kNormal:
      return "normal";
    case LogitKind::kNearTies:
      return "near ties";
    case LogitKind::kAllEqual:
      return "all equal";
    case LogitKind::kHugeSpread:
      return "huge spread";
  }
  return "unknown";
}

double make_logit(LogitKind kind, double common, SeededRandom* random) {
  switch (kind) {
    case LogitKind::kNormal:
      return 2.0 * random->normal();
    case LogitKind::kNearTies:
      // Two or three values a token, a few units in the last place apart.
      return as_float(common + static_cast<double>(random->below(3))) +
             static_cast<double>(random->below(4)) * 0x1p-20;
    case LogitKind::kHugeSpread:
      return random->uniform(-1e4, 1e4);
    default:
      return common;
  }
}

constexpr std::array<std::size_t, 10> kExpertCounts = {1, 2, 3, 8, 16, 60, 64, 128, 129, 256};

std::size_t draw_experts(PropertyCase& property_case, std::size_t least) {
  return std::max(least, property_case.pick("num_experts", kExpertCounts));
}

std::size_t draw_k(PropertyCase& property_case, std::size_t num_experts) {
  const std::size_t any = 1 + num_experts / 3;
  const std::array<std::size_t, 4> options = {1, std::min<std::size_t>(8, num_experts), num_experts,
                                              any};
  return property_case.pick("k", options);
}

}  // namespace

std::string_view activation_kind_name(ActivationKind kind) {
  switch (kind) {
    case ActivationKind::kNormal:
      return "normal";
    case ActivationKind::kOutlier:
      return "outlier";
    case ActivationKind::kZeroRows:
      return "zero rows";
    case ActivationKind::kNegativeMax:
      return "negative max";
    case ActivationKind::kTiny:
      return "tiny";
    case ActivationKind::kTies:
      return "ties";
  }
  return "unknown";
}

Matrix<double> make_activations(ActivationKind kind, std::size_t rows, std::size_t columns,
                                std::uint64_t seed) {
  Matrix<double> x(rows, columns);
  SeededRandom random(mix_seed(seed, 11));
  const std::size_t outlier = random.below(columns);
  for (std::size_t t = 0; t < rows; ++t) {
    for (std::size_t c = 0; c < columns; ++c) {
      double value = random.normal();
      if (kind == ActivationKind::kOutlier && c == outlier) value = 26.0 + value;
      if (kind == ActivationKind::kZeroRows && t % 2 == 0) value = 0.0;
      if (kind == ActivationKind::kTiny) value *= 1e-30;
      if (kind == ActivationKind::kNegativeMax) {
        if (c % 32 == 7) value = -6.0 - std::abs(value);
        if (c / 32 == columns / 64) value = -1.5;
      }
      if (kind == ActivationKind::kTies) {
        // d = 1/8 exactly: the first element of a block is 127 / 8, the others end in d / 2.
        const double steps = static_cast<double>(random.below(254)) - 127.0;
        value = c % 32 == 0 ? 127.0 / 8.0 : (steps + 0.5) / 8.0;
      }
      x(t, c) = as_float(value);
    }
  }
  return x;
}

Matrix<double> make_half_activations(std::size_t rows, std::size_t columns, std::uint64_t seed) {
  Matrix<double> x = make_activations(ActivationKind::kNormal, rows, columns, seed);
  for (double& value : x.flat()) {
    value = static_cast<double>(float_from_half(half_from_float(static_cast<float>(value))));
  }
  return x;
}

std::vector<float> make_gain(std::size_t size, std::uint64_t seed) {
  std::vector<float> gain(size);
  SeededRandom random(mix_seed(seed, 12));
  for (float& value : gain) value = static_cast<float>(1.0 + random.normal() / 8.0);
  return gain;
}

Matrix<double> draw_activations(PropertyCase& property_case, std::size_t rows,
                                std::size_t columns) {
  const auto kind = property_case.pick(
      "x", kActivationKinds, [](ActivationKind option) { return activation_kind_name(option); });
  return make_activations(kind, rows, columns, property_case.seed("x seed"));
}

TensorType draw_type(PropertyCase& property_case, std::string_view name,
                     std::span<const TensorType> types) {
  return property_case.pick(name, types,
                            [](TensorType type) { return tensor_type_info(type).name; });
}

WeightKind draw_weight_kind(PropertyCase& property_case) {
  return property_case.pick("weight", kWeightKinds,
                            [](WeightKind option) { return weight_kind_name(option); });
}

OwnedWeight draw_weight(PropertyCase& property_case, std::size_t rows, std::size_t columns,
                        TensorType type) {
  const WeightKind kind = draw_weight_kind(property_case);
  return make_weight(type, rows, columns, kind, property_case.seed("weight seed"));
}

std::size_t draw_columns(PropertyCase& property_case, TensorType type) {
  // In blocks of the type; narrow types also get widths that are no multiple of 256.
  static constexpr std::array<std::size_t, 4> kSuperBlocks = {1, 2, 3, 9};
  static constexpr std::array<std::size_t, 7> kNarrow = {32, 64, 96, 256, 288, 512, 2304};
  const std::size_t block_size = tensor_type_info(type).block_size;
  if (block_size <= 32) return property_case.pick("columns", kNarrow);
  return property_case.pick("super-blocks", kSuperBlocks) * block_size;
}

DrawnLogits draw_logits(PropertyCase& property_case) {
  const std::size_t num_tokens = property_case.integer("num_tokens", 1, 4);
  const std::size_t num_experts = draw_experts(property_case, 1);
  const std::size_t k = draw_k(property_case, num_experts);
  const LogitKind kind = property_case.pick("logits", kLogitKinds, logit_kind_name);
  Matrix<double> logits(num_tokens, num_experts);
  if (kind == LogitKind::kGrid) {
    const auto steps = property_case.integers("quarters", num_tokens * num_experts, -16, 16);
    for (std::size_t i = 0; i < steps.size(); ++i) logits.flat()[i] = 0.25 * steps[i];
    return {std::move(logits), k};
  }
  SeededRandom random(mix_seed(property_case.seed("logit seed"), 13));
  for (std::size_t t = 0; t < num_tokens; ++t) {
    const double common = as_float(random.normal());
    for (double& logit : logits.row(t)) logit = as_float(make_logit(kind, common, &random));
  }
  return {std::move(logits), k};
}

DrawnLogits draw_distinct_logits(PropertyCase& property_case, std::size_t least_experts) {
  const std::size_t num_tokens = property_case.integer("num_tokens", 1, 4);
  const std::size_t num_experts = draw_experts(property_case, least_experts);
  const std::size_t k = draw_k(property_case, num_experts);
  const std::uint64_t seed = property_case.seed("logit seed");
  Matrix<double> logits(num_tokens, num_experts);
  for (std::size_t t = 0; t < num_tokens; ++t) {
    // Distinct places on a grid of 2048 steps, spread over [-4, 4).
    const auto places = make_permutation(2048, mix_seed(seed, t));
    for (std::size_t e = 0; e < num_experts; ++e) {
      logits(t, e) = (static_cast<double>(places[e]) - 1024.0) * 0x1p-8;
    }
  }
  return {std::move(logits), k};
}

OwnedLayer draw_layer(PropertyCase& property_case) {
  static constexpr std::array<std::size_t, 6> kNarrowExperts = {1, 2, 8, 16, 40, 256};
  static constexpr std::array<std::size_t, 3> kWideExperts = {2, 3, 4};
  static constexpr std::array<std::size_t, 2> kWideHidden = {256, 512};
  const bool wide = property_case.pick("super-blocks", std::array<int, 4>{0, 0, 0, 1}) == 1;
  LayerShape shape;
  shape.num_experts = wide ? property_case.pick("num_experts", kWideExperts)
                           : property_case.pick("num_experts", kNarrowExperts);
  shape.num_experts_per_tok = draw_k(property_case, shape.num_experts);
  shape.norm_topk_prob = property_case.pick("norm_topk_prob", std::array<int, 2>{1, 0}) == 1;
  shape.hidden_size = wide                     ? property_case.pick("hidden_size", kWideHidden)
                      : shape.num_experts > 16 ? 32
                                               : 64;
  shape.moe_intermediate_size = wide ? 256 : 32;
  const std::span<const TensorType> types =
      wide ? std::span<const TensorType>(kWeightTypes) : std::span<const TensorType>(kNarrowTypes);
  shape.gate_proj = draw_type(property_case, "gate_proj", types);
  shape.up_proj = draw_type(property_case, "up_proj", types);
  shape.down_proj = draw_type(property_case, "down_proj", types);
  return make_layer(shape, property_case.seed("layer seed"));
}

std::vector<std::size_t> make_permutation(std::size_t count, std::uint64_t seed) {
  std::vector<std::size_t> order(count);
  std::iota(order.begin(), order.end(), std::size_t{0});
  SeededRandom random(mix_seed(seed, 14));
  for (std::size_t i = count; i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);
  return order;
}

std::vector<double> softmax(std::span<const double> logits) {
  const double max = *std::ranges::max_element(logits);
  std::vector<double> probability(logits.size());
  double sum = 0.0;
  for (std::size_t e = 0; e < logits.size(); ++e) {
    probability[e] = std::exp(logits[e] - max);
    sum += probability[e];
  }
  for (double& value : probability) value /= sum;
  return probability;
}

}  // namespace refute
