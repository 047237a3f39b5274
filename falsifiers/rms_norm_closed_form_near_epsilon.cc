// Claim: Rows whose mean square is eps / 100, eps and 100 eps match x / sqrt(mean(x^2) + eps) *
//   gain within 4 units in the last place of float32, and scaling x by 2^n with eps by 2^2n changes
//   no bit.
// Why: Only such rows feel epsilon: at normal scale eps 1e-5 for 1e-6 moves the result by less than
//   rounding does.
// Catches: A wrong epsilon, epsilon outside of the root, epsilon left out, an approximate
//   reciprocal root.
// Misses: Errors that need many rows or large values.
// Source: Zhang & Sennrich, 2019; faults 45 to 47 of the catalogue survive every other metric.
#include "falsifiers/rms_norm_closed_form_near_epsilon.h"

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/backend.h"
#include "falsifiers/generators.h"
#include "falsifiers/judge.h"
#include "falsifiers/metrics.h"
#include "falsifiers/property.h"

namespace refute {
namespace {

constexpr std::string_view kId = "rms_norm.closed_form_near_epsilon";

constexpr std::array<MetricInfo, 2> kMetrics = {{
    {"ulp", "Largest distance from the closed form in units in the last place of float32.", false,
     4.0},
    {"differing_elements", "Elements whose bits change under a scaling by 2^n; fewer than one.",
     false, 0.5},
}};

constexpr std::array<std::size_t, 5> kWidths = {32, 128, 130, 256, 2048};
constexpr std::array<float, 3> kEpsilons = {1e-6f, 1e-5f, 1e-3f};
constexpr std::array<double, 3> kOverEpsilon = {0.01, 1.0, 100.0};

double units_in_last_place(double expected, double found) {
  const float rounded = static_cast<float>(std::abs(expected));
  const float next = std::nextafter(rounded, std::numeric_limits<float>::infinity());
  return std::abs(found - expected) / static_cast<double>(next - rounded);
}

// A row of mean square near `mean_square`: constant in magnitude, or random.
Matrix<double> make_row(std::size_t columns, double mean_square, bool constant,
                        std::uint64_t seed) {
  Matrix<double> x = make_activations(ActivationKind::kNormal, 1, columns, seed);
  double square = 0.0;
  for (const double value : x.flat()) square += value * value / static_cast<double>(columns);
  for (double& value : x.flat()) {
    value = constant ? std::copysign(std::sqrt(mean_square), value)
                     : value * std::sqrt(mean_square / square);
    value = static_cast<double>(static_cast<float>(value));
  }
  return x;
}

std::vector<double> closed_form(std::span<const double> x, std::span<const float> gain,
                                float epsilon) {
  double square = 0.0;
  for (const double value : x) square += value * value;
  const double rms =
      std::sqrt(square / static_cast<double>(x.size()) + static_cast<double>(epsilon));
  std::vector<double> y(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) y[i] = x[i] / rms * static_cast<double>(gain[i]);
  return y;
}

void measure_row(const Backend& backend, const Matrix<double>& x, float epsilon,
                 PropertyCase& property_case) {
  const std::size_t columns = x.columns();
  const auto gain = make_gain(columns, property_case.seed("gain seed"));
  const auto found = backend.rms_norm(x.view(), gain, epsilon);
  if (!property_case.require_ok(found, "rms_norm")) return;
  const auto expected = closed_form(x.row(0), gain, epsilon);
  double worst = 0.0;
  std::size_t column = 0;
  for (std::size_t i = 0; i < columns; ++i) {
    const double distance = units_in_last_place(expected[i], (*found)(0, i));
    if (distance <= worst) continue;
    worst = distance;
    column = i;
  }
  property_case.measure("ulp", worst, "column " + std::to_string(column));
}

void near_epsilon(const Backend& backend, PropertyCase& property_case) {
  const std::size_t columns = property_case.pick("columns", kWidths);
  const float epsilon = property_case.pick("epsilon", kEpsilons);
  const double over = property_case.pick("mean square over epsilon", kOverEpsilon);
  const bool constant = property_case.pick("constant", std::array<int, 2>{1, 0}) == 1;
  measure_row(backend,
              make_row(columns, over * static_cast<double>(epsilon), constant,
                       property_case.seed("x seed")),
              epsilon, property_case);
}

// Every epsilon with every distance from it, and rows that are one number throughout, which a norm
// that subtracts the mean makes zero.
constexpr std::size_t kPinned = 2 * kEpsilons.size() * kOverEpsilon.size();
void pinned(const Backend& backend, PropertyCase& property_case, std::size_t index) {
  const float epsilon = kEpsilons[index / 2 % kEpsilons.size()];
  const double over = kOverEpsilon[index / 2 / kEpsilons.size()];
  const std::size_t columns = kWidths[index % kWidths.size()];
  Matrix<double> x = make_row(columns, over * static_cast<double>(epsilon), index % 2 == 0,
                              property_case.seed("x seed"));
  if (index % 2 == 0) {
    for (double& value : x.flat()) value = std::abs(value);
  }
  measure_row(backend, x, epsilon, property_case);
}

void power_of_two(const Backend& backend, PropertyCase& property_case) {
  const std::size_t columns = property_case.pick("columns", kWidths);
  const int exponent = static_cast<int>(property_case.integer("n + 12", 0, 24)) - 12;
  if (exponent != 0) property_case.mark_interesting();
  const Matrix<double> x =
      make_activations(ActivationKind::kNormal, 2, columns, property_case.seed("x seed"));
  const auto gain = make_gain(columns, property_case.seed("gain seed"));
  Matrix<double> scaled = x;
  for (double& value : scaled.flat()) value = std::ldexp(value, exponent);
  const float epsilon = 0x1p-20f;
  const auto before = backend.rms_norm(x.view(), gain, epsilon);
  const auto after = backend.rms_norm(scaled.view(), gain, std::ldexp(epsilon, 2 * exponent));
  if (!property_case.require_ok(before, "rms_norm") ||
      !property_case.require_ok(after, "rms_norm")) {
    return;
  }
  const auto differing = count_differing_bits(before->view(), after->view());
  if (!property_case.require_ok(differing, "rms_norm")) return;
  property_case.measure("differing_elements", static_cast<double>(*differing),
                        "scaled by 2^" + std::to_string(exponent));
}

}  // namespace

Verdict falsify_closed_form_near_epsilon(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  check_property({kId, "near_epsilon"}, criterion, &judge, [&](PropertyCase& property_case) {
    near_epsilon(subject.backend, property_case);
  });
  check_pinned({kId, "pinned"}, criterion, &judge, kPinned,
               [&](PropertyCase& property_case, std::size_t index) {
                 pinned(subject.backend, property_case, index);
               });
  check_property({kId, "power_of_two", 0.5}, criterion, &judge, [&](PropertyCase& property_case) {
    power_of_two(subject.backend, property_case);
  });
  return judge.verdict();
}

const FalsifierInfo& rms_norm_closed_form_near_epsilon_info() {
  static const FalsifierInfo info = {
      .id = kId,
      .claim =
          "Rows whose mean square is eps / 100, eps and 100 eps match x / sqrt(mean(x^2) + eps) * "
          "gain within 4 units in the last place of float32, and scaling x by 2^n with eps by 2^2n "
          "changes no bit.",
      .why =
          "Only such rows feel epsilon: at normal scale eps 1e-5 for 1e-6 moves the result by less "
          "than rounding does.",
      .catches =
          "A wrong epsilon, epsilon outside of the root, epsilon left out, an approximate "
          "reciprocal root.",
      .misses = "Errors that need many rows or large values.",
      .source =
          "Zhang & Sennrich, 2019; faults 45 to 47 of the catalogue survive every other metric.",
      .metrics = kMetrics,
      .backends = kAllBackends,
      .needs_model = false,
      .needs_pack = false,
      .falsify = falsify_closed_form_near_epsilon,
  };
  return info;
}

}  // namespace refute
