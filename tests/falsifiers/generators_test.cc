#include "falsifiers/generators.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <set>

#include "falsifiers/judge.h"
#include "falsifiers/seeded_random.h"
#include "falsifiers/textbook.h"
#include "kernels/quant/dequantize.h"

namespace refute {
namespace {

// Runs `body` on 200 generated cases.
void for_each_case(const std::function<void(PropertyCase&)>& body) {
  Criterion criterion;
  criterion.cases = 200;
  Judge judge({}, criterion);
  const auto result = check_property({"test.generators", "any"}, criterion, &judge, body);
  EXPECT_EQ(result.cases, 200u) << judge.verdict().reason;
}

bool is_float(double value) { return static_cast<double>(static_cast<float>(value)) == value; }

TEST(SeededRandom, IsUniformNormalAndRepeatable) {
  SeededRandom random(1);
  double sum = 0.0;
  double square = 0.0;
  for (int i = 0; i < 20000; ++i) {
    const double value = random.normal();
    sum += value;
    square += value * value;
  }
  EXPECT_NEAR(sum / 20000, 0.0, 0.03);
  EXPECT_NEAR(square / 20000, 1.0, 0.05);
  EXPECT_EQ(SeededRandom(7).next(), SeededRandom(7).next());
  EXPECT_NE(mix_seed(7, 0), mix_seed(7, 1));
  EXPECT_NE(hash_text("a"), hash_text("b"));
}

TEST(Activations, AreFloatsOfTheirKind) {
  for (const ActivationKind kind : kActivationKinds) {
    const Matrix<double> x = make_activations(kind, 4, 96, 5);
    EXPECT_TRUE(std::ranges::all_of(x.flat(), is_float)) << activation_kind_name(kind);
  }
  const Matrix<double> outlier = make_activations(ActivationKind::kOutlier, 8, 64, 1);
  EXPECT_GT(*std::ranges::max_element(outlier.flat()), 20.0);
  const Matrix<double> zeros = make_activations(ActivationKind::kZeroRows, 2, 64, 1);
  EXPECT_TRUE(std::ranges::all_of(zeros.row(0), [](double value) { return value == 0.0; }));
  EXPECT_NE(zeros(1, 0), 0.0);
  const Matrix<double> tiny = make_activations(ActivationKind::kTiny, 2, 64, 1);
  EXPECT_LT(*std::ranges::max_element(tiny.flat()), 1e-29);
}

TEST(Activations, NegativeMaxHasItsLargestMagnitudeBelowZeroAndAConstantBlock) {
  const Matrix<double> x = make_activations(ActivationKind::kNegativeMax, 1, 128, 3);
  for (std::size_t block = 0; block < 4; ++block) {
    const auto values = x.row(0).subspan(32 * block, 32);
    const auto [low, high] = std::ranges::minmax(values);
    EXPECT_GT(-low, high) << block;
  }
  const auto constant = x.row(0).subspan(64, 32);
  EXPECT_TRUE(std::ranges::all_of(constant, [](double value) { return value == -1.5; }));
}

TEST(Activations, TiesEndInHalfAStep) {
  const Matrix<double> x = make_activations(ActivationKind::kTies, 1, 64, 3);
  for (std::size_t c = 0; c < 64; ++c) {
    if (c % 32 == 0) {
      EXPECT_EQ(x(0, c), 127.0 / 8.0);
    } else {
      EXPECT_LE(std::abs(x(0, c)), 127.0 / 8.0);
      EXPECT_EQ(std::abs(std::remainder(x(0, c) * 8.0, 1.0)), 0.5);
    }
  }
}

TEST(Weights, EveryTypeAndKindIsFiniteAndReadAlikeByBothDecoders) {
  for (const TensorType type : kWeightTypes) {
    for (const WeightKind kind : kWeightKinds) {
      const OwnedWeight weight = make_weight(type, 3, 512, kind, 9);
      std::vector<double> values(512);
      for (std::size_t r = 0; r < 3; ++r) {
        EXPECT_TRUE(row_scales_are_finite(type, weight.view().row(r), 512));
        dequantize_row(type, weight.view().row(r), std::span<double>(values));
        for (std::size_t c = 0; c < 512; ++c) {
          EXPECT_EQ(values[c], textbook::element(type, weight.view().row(r), c).value);
        }
      }
    }
  }
}

TEST(Weights, PlainOnesHaveUnitProducts) {
  for (const TensorType type : kWeightTypes) {
    const OwnedWeight weight = make_weight(type, 64, 256, WeightKind::kPlain, 2);
    double square = 0.0;
    for (std::size_t r = 0; r < 64; ++r) {
      for (std::size_t c = 0; c < 256; ++c) {
        const double value = textbook::element(type, weight.view().row(r), c).value;
        square += value * value / 64.0;
      }
    }
    EXPECT_GT(square, 0.3) << tensor_type_info(type).name;
    EXPECT_LT(square, 3.0) << tensor_type_info(type).name;
  }
}

TEST(Weights, ScalesAreMultipliedAndPoisoned) {
  for (const TensorType type : kWeightTypes) {
    OwnedWeight weight = make_weight(type, 1, 256, WeightKind::kPlain, 2);
    const double before = textbook::element(type, weight.bytes.data(), 7).value;
    multiply_scales(type, weight.bytes, 2.0f);
    EXPECT_EQ(textbook::element(type, weight.bytes.data(), 7).value, 2.0 * before);
    poison_with_nan(type, weight.bytes);
    EXPECT_TRUE(std::isnan(textbook::element(type, weight.bytes.data(), 7).value));
  }
}

TEST(Layers, HaveTheShapesOfTheirConfig) {
  for_each_case([](PropertyCase& property_case) {
    const OwnedLayer layer = draw_layer(property_case);
    const LayerWeights weights = layer.view();
    EXPECT_EQ(weights.router.rows, layer.config.num_experts);
    EXPECT_EQ(weights.gate_proj.data.size(),
              layer.config.num_experts * weights.gate_proj.bytes_per_expert());
    EXPECT_EQ(weights.down_proj.rows, layer.config.hidden_size);
    EXPECT_EQ(weights.down_proj.columns, layer.config.moe_intermediate_size);
    EXPECT_LE(layer.config.num_experts_per_tok, layer.config.num_experts);
    EXPECT_GE(layer.config.num_experts_per_tok, 1u);
  });
}

TEST(Logits, CoverTiesManyExpertsAndEveryKindOfK) {
  std::set<std::size_t> experts;
  bool single = false;
  bool all = false;
  bool tied = false;
  for_each_case([&](PropertyCase& property_case) {
    const DrawnLogits drawn = draw_logits(property_case);
    EXPECT_TRUE(std::ranges::all_of(drawn.logits.flat(), is_float));
    experts.insert(drawn.logits.columns());
    single = single || drawn.k == 1;
    all = all || (drawn.k == drawn.logits.columns() && drawn.k > 1);
    const std::set<double> values(drawn.logits.row(0).begin(), drawn.logits.row(0).end());
    tied = tied || values.size() < drawn.logits.columns();
  });
  EXPECT_TRUE(experts.contains(1) && experts.contains(128) && experts.contains(256));
  EXPECT_TRUE(single && all && tied);
}

TEST(Logits, DistinctOnesAreDistinctAndStayExactUnderShifts) {
  for_each_case([](PropertyCase& property_case) {
    const DrawnLogits drawn = draw_distinct_logits(property_case, 2);
    EXPECT_GE(drawn.logits.columns(), 2u);
    for (std::size_t t = 0; t < drawn.logits.rows(); ++t) {
      const std::set<double> values(drawn.logits.row(t).begin(), drawn.logits.row(t).end());
      EXPECT_EQ(values.size(), drawn.logits.columns());
      EXPECT_TRUE(std::ranges::all_of(values, [](double value) { return is_float(value + 1e4); }));
    }
  });
}

TEST(Permutations, HoldEachNumberOnce) {
  std::vector<std::size_t> expected(100);
  std::iota(expected.begin(), expected.end(), std::size_t{0});
  auto order = make_permutation(100, 4);
  EXPECT_NE(order, expected);
  std::ranges::sort(order);
  EXPECT_EQ(order, expected);
}

TEST(Softmax, IsTheClosedForm) {
  const std::vector<double> probability = softmax(std::vector<double>{0.0, std::log(3.0)});
  EXPECT_DOUBLE_EQ(probability[0], 0.25);
  EXPECT_DOUBLE_EQ(probability[1], 0.75);
}

}  // namespace
}  // namespace refute
