// Claim: Activations enter a quantized matmul as d * q with d = max |x| / 127 in float32 and q = x
//   / d rounded half to even within [-127, 127], read back bit for bit; a block with NaN or Inf
//   gives NaN.
// Why: Backends are comparable only if they quantize alike; one rounding rule apart already differs
//   by one step in a hundred elements.
// Catches: Rounding half away from zero or down, -128 as a quant, a division by zero for rows of
//   zeros, x times 1 / d for x / d, scales kept in float16, NaN that turns finite.
// Misses: What happens to the integers afterwards.
// Source: The numerics shared by all fast backends; faults 94 to 96 of the catalogue.
#include "falsifiers/activation_quantization_matches_definition.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "engine/backend.h"
#include "falsifiers/generators.h"
#include "falsifiers/judge.h"
#include "falsifiers/owned_weights.h"
#include "falsifiers/parity.h"
#include "falsifiers/property.h"

namespace refute {
namespace {

constexpr std::string_view kId = "activation.quantization_matches_definition";

constexpr std::array<MetricInfo, 2> kMetrics = {{
    kDifferingElements,
    {"silent_non_finite", "Results that are finite although x is not; fewer than one.", false, 0.5},
}};

// Row c reads activation c: quant 1 there, scale 1.
OwnedWeight identity(std::size_t columns) {
  OwnedWeight weight{TensorType::kQ8_0, columns, columns,
                     std::vector<std::byte>(columns * row_bytes(TensorType::kQ8_0, columns))};
  const std::size_t row_size = weight.view().bytes_per_row();
  for (std::size_t c = 0; c < columns; ++c) {
    for (std::size_t block = 0; block < columns / 32; ++block) {
      weight.bytes[c * row_size + block * 34 + 1] = std::byte{0x3c};  // float16 1.0
    }
    weight.bytes[c * row_size + c / 32 * 34 + 2 + c % 32] = std::byte{1};
  }
  return weight;
}

// Half to even, by hand: the tie is exact in float32.
float round_half_even(float value) {
  const float below = std::floor(value);
  const float over = value - below;
  if (over != 0.5f) return over < 0.5f ? below : below + 1.0f;
  return std::fmod(below, 2.0f) == 0.0f ? below : below + 1.0f;
}

Matrix<double> definition(const Matrix<double>& x) {
  Matrix<double> result(x.rows(), x.columns());
  for (std::size_t t = 0; t < x.rows(); ++t) {
    for (std::size_t first = 0; first < x.columns(); first += 32) {
      float max = 0.0f;
      for (std::size_t i = first; i < first + 32; ++i) {
        max = std::max(max, std::abs(static_cast<float>(x(t, i))));
      }
      const float d = max / 127.0f;
      for (std::size_t i = first; i < first + 32 && d > 0.0f; ++i) {
        const float quotient = static_cast<float>(x(t, i)) / d;
        const float q = std::clamp(round_half_even(quotient), -127.0f, 127.0f);
        result(t, i) = static_cast<double>(d * q);
      }
    }
  }
  return result;
}

// As float32, the sign of zero aside: where the emulated oracle returns d * q unrounded.
void round_to_float(Matrix<double>* values) {
  for (double& value : values->flat()) {
    value = static_cast<double>(static_cast<float>(value)) + 0.0;
  }
}

void read_back(const Backend& backend, PropertyCase& property_case) {
  const std::size_t columns = 32 * property_case.integer("blocks", 1, 9);
  const std::size_t rows = property_case.integer("rows", 1, 4);
  const Matrix<double> x = draw_activations(property_case, rows, columns);
  auto found = backend.matmul(identity(columns).view(), x.view());
  if (!property_case.require_ok(found, "matmul by the identity")) return;
  Matrix<double> expected = definition(x);
  round_to_float(&expected);
  round_to_float(&*found);
  measure_equal_bits(property_case, expected.view(), found->view(), "activations read back");
}

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr std::array<double, 3> kBadValues = {std::numeric_limits<double>::quiet_NaN(), kInfinity,
                                              -kInfinity};

void non_finite(const Backend& backend, PropertyCase& property_case) {
  const std::size_t columns = 32 * property_case.integer("blocks", 1, 9);
  Matrix<double> x = draw_activations(property_case, 1, columns);
  const std::size_t place = property_case.integer("column", 0, columns - 1);
  x(0, place) = property_case.pick("value", kBadValues);
  const auto found = backend.matmul(identity(columns).view(), x.view());
  if (!property_case.require_ok(found, "matmul by the identity")) return;
  const auto finite =
      std::ranges::count_if(found->flat(), [](double y) { return std::isfinite(y); });
  property_case.measure("silent_non_finite", static_cast<double>(finite),
                        "column " + std::to_string(place));
}

}  // namespace

Verdict falsify_quantization_matches_definition(const Subject& subject,
                                                const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  check_property({kId, "read_back"}, criterion, &judge,
                 [&](PropertyCase& property_case) { read_back(subject.backend, property_case); });
  check_property({kId, "non_finite"}, criterion, &judge,
                 [&](PropertyCase& property_case) { non_finite(subject.backend, property_case); });
  return judge.verdict();
}

const FalsifierInfo& activation_quantization_matches_definition_info() {
  static const FalsifierInfo info = {
      .id = kId,
      .claim =
          "Activations enter a quantized matmul as d * q with d = max |x| / 127 in float32 and q = "
          "x / d rounded half to even within [-127, 127], read back bit for bit; a block with NaN "
          "or Inf gives NaN.",
      .why =
          "Backends are comparable only if they quantize alike; one rounding rule apart already "
          "differs by one step in a hundred elements.",
      .catches =
          "Rounding half away from zero or down, -128 as a quant, a division by zero for rows of "
          "zeros, x times 1 / d for x / d, scales kept in float16, NaN that turns finite.",
      .misses = "What happens to the integers afterwards.",
      .source = "The numerics shared by all fast backends; faults 94 to 96 of the catalogue.",
      .metrics = kMetrics,
      .backends = kFastBackends,
      .needs_model = false,
      .needs_pack = false,
      .falsify = falsify_quantization_matches_definition,
  };
  return info;
}

}  // namespace refute
