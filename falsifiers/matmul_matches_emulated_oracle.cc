// Claim: A matmul of any weight type agrees with float64 under the same int8 activations within
//   relative L2 5e-6, and every element within a quarter of 8 sqrt(n) 2^-24 sum |w x|.
// Why: Integer dot products are exact and the rest is a few float32 operations a block, so only
//   rounding separates a backend from the oracle that quantizes activations the same way.
// Catches: Scale and minimum mixed up, nibble order, high bits, missing -32, a wrong type for a
//   tensor, row stride, tail rows and columns, float16 accumulation, -128 as a quant, rounding half
//   away from even.
// Misses: What int8 activations cost against exact ones; that is a fidelity, not an error of the
//   kernel.
// Source: Class B of the comparison classes (class A for F32, F16, BF16); Higham, 2002, for the
//   elementwise bound.
#include "falsifiers/matmul_matches_emulated_oracle.h"

#include <array>
#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "engine/backend.h"
#include "falsifiers/generators.h"
#include "falsifiers/judge.h"
#include "falsifiers/owned_weights.h"
#include "falsifiers/parity.h"
#include "falsifiers/property.h"
#include "falsifiers/textbook.h"

namespace refute {
namespace {

constexpr std::string_view kId = "matmul.matches_emulated_oracle";

constexpr auto kMetrics = parity_and<1>({{
    {"elementwise_ratio", "|y' - y| over 8 sqrt(n) 2^-24 sum |w x|, the worst element.", false,
     0.25},
}});

constexpr std::array<std::size_t, 3> kSuperBlocks = {1, 2, 9};
constexpr std::array<std::size_t, 5> kRows = {1, 7, 8, 9, 33};
constexpr std::array<std::size_t, 8> kTokens = {1, 2, 7, 8, 9, 31, 32, 33};
// With fewer outputs a row may cancel to nearly nothing, and relative errors of rows say nothing.
constexpr std::size_t kLeastRows = 16;

// sum over c of |w[r, c]| max_t |x[t, c]| bounds every token's sum.
double elementwise_ratio(const OwnedWeight& weight, const Matrix<double>& x,
                         const Matrix<double>& expected, const Matrix<double>& found) {
  const std::size_t columns = weight.columns;
  const double slack = 8.0 * std::sqrt(static_cast<double>(columns)) * 0x1p-24;
  // Products that underflow lose up to a denormal each.
  const double underflow = static_cast<double>(columns) * 0x1p-149;
  double worst = 0.0;
  std::vector<double> magnitude(columns);
  for (std::size_t r = 0; r < weight.rows; ++r) {
    for (std::size_t c = 0; c < columns; ++c) {
      magnitude[c] = textbook::element(weight.type, weight.view().row(r), c).magnitude;
    }
    for (std::size_t t = 0; t < x.rows(); ++t) {
      double sum = 0.0;
      for (std::size_t c = 0; c < columns; ++c) sum += magnitude[c] * std::abs(x(t, c));
      const double error = std::abs(found(t, r) - expected(t, r));
      const double ratio = error / (slack * sum + underflow);
      if (!(ratio <= worst)) worst = ratio;
    }
  }
  return worst;
}

// `spread`: the rows differ from each other, so that not all outputs of a token cancel at once.
void measure(const Backend& reference, const Backend& backend, const OwnedWeight& weight,
             const Matrix<double>& x, bool spread, PropertyCase& property_case) {
  const auto expected = reference.matmul(weight.view(), x.view());
  const auto found = backend.matmul(weight.view(), x.view());
  if (!property_case.require_ok(expected, "oracle matmul") ||
      !property_case.require_ok(found, "matmul") ||
      !property_case.require(found->rows() == x.rows() && found->columns() == weight.rows,
                             "matmul: the result is not [num_tokens, rows]")) {
    return;
  }
  const std::string where = std::string(tensor_type_info(weight.type).name) + " matmul [" +
                            std::to_string(weight.rows) + ", " + std::to_string(weight.columns) +
                            "] of " + std::to_string(x.rows()) + " tokens";
  property_case.measure("elementwise_ratio", elementwise_ratio(weight, x, *expected, *found),
                        where);
  if (spread && weight.rows >= kLeastRows) {
    measure_parity(property_case, expected->view(), found->view(), where);
  }
}

void pinned_shape(const Backend& reference, const Backend& backend, PropertyCase& property_case,
                  std::size_t index) {
  const TensorType type = kWeightTypes[index % kWeightTypes.size()];
  index /= kWeightTypes.size();
  const std::size_t columns = 256 * kSuperBlocks[index % kSuperBlocks.size()];
  const std::size_t rows = kRows[index / kSuperBlocks.size() % kRows.size()];
  // Every number of tokens meets every type; the pairs with rows vary.
  const std::size_t tokens = kTokens[index * 3 % kTokens.size()];
  const OwnedWeight weight =
      make_weight(type, rows, columns, WeightKind::kPlain, property_case.seed("weight seed"));
  const Matrix<double> x =
      make_activations(ActivationKind::kNormal, tokens, columns, property_case.seed("x seed"));
  measure(reference, backend, weight, x, true, property_case);
}

void any_shape(const Backend& reference, const Backend& backend, PropertyCase& property_case) {
  const TensorType type = draw_type(property_case, "type", kWeightTypes);
  const std::size_t columns = draw_columns(property_case, type);
  const std::size_t rows = property_case.integer("rows", 1, 40);
  const std::size_t tokens = property_case.integer("num_tokens", 1, 9);
  const WeightKind kind = draw_weight_kind(property_case);
  const OwnedWeight weight =
      make_weight(type, rows, columns, kind, property_case.seed("weight seed"));
  const Matrix<double> x = draw_activations(property_case, tokens, columns);
  const bool spread = kind != WeightKind::kAllLowest && kind != WeightKind::kAllHighest;
  measure(reference, backend, weight, x, spread, property_case);
}

}  // namespace

Verdict falsify_matmul_matches_emulated_oracle(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  const auto oracle = make_oracle_backend(ActivationScheme::kEmulatedInt8);
  constexpr std::size_t kPinned = kWeightTypes.size() * kSuperBlocks.size() * kRows.size();
  check_pinned({kId, "pinned_shape"}, criterion, &judge, kPinned,
               [&](PropertyCase& property_case, std::size_t index) {
                 pinned_shape(*oracle, subject.backend, property_case, index);
               });
  check_property({kId, "any_shape"}, criterion, &judge, [&](PropertyCase& property_case) {
    any_shape(*oracle, subject.backend, property_case);
  });
  return judge.verdict();
}

const FalsifierInfo& matmul_matches_emulated_oracle_info() {
  static const FalsifierInfo info = {
      .id = kId,
      .claim =
          "A matmul of any weight type agrees with float64 under the same int8 activations within "
          "relative L2 5e-6, and every element within a quarter of 8 sqrt(n) 2^-24 sum |w x|.",
      .why =
          "Integer dot products are exact and the rest is a few float32 operations a block, so "
          "only rounding separates a backend from the oracle that quantizes activations the same "
          "way.",
      .catches =
          "Scale and minimum mixed up, nibble order, high bits, missing -32, a wrong type for a "
          "tensor, row stride, tail rows and columns, float16 accumulation, -128 as a quant, "
          "rounding half away from even.",
      .misses =
          "What int8 activations cost against exact ones; that is a fidelity, not an error of the "
          "kernel.",
      .source =
          "Class B of the comparison classes (class A for F32, F16, BF16); Higham, 2002, for the "
          "elementwise bound.",
      .metrics = kMetrics,
      .backends = kFastBackends,
      .needs_model = false,
      .needs_pack = false,
      .falsify = falsify_matmul_matches_emulated_oracle,
  };
  return info;
}

}  // namespace refute
