// Claim: Rotating each basis vector gives the cosines and sines of float64 angles within 2e-7
//   absolute, at positions 0, 1, 2, 1000, 32767, 100003 and the last two of the table, for theta
//   1e4, 1e6 and 1e7; position 0 is the identity, and a position past the table an error.
// Why: Attention only sees differences of positions, so tests of whole attention miss a wrong
//   theta, sign or pairing that an absolute angle shows.
// Catches: A wrong theta, sign, pairing of dimensions, position off by one or clamped, float32
//   angles, heads that rotate unlike each other.
// Misses: Which theta the model file asks for.
// Source: Su et al., 2021; the reference here is computed in long double, apart from the table
//   under test.
#include "falsifiers/rope_matches_golden.h"

#include <array>
#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>

#include "engine/backend.h"
#include "falsifiers/judge.h"
#include "falsifiers/property.h"
#include "kernels/rope.h"

namespace refute {
namespace {

constexpr std::string_view kId = "rope.matches_golden";

constexpr std::array<MetricInfo, 3> kMetrics = {{
    {"absolute_error", "|y - golden| of basis vectors of length 1.", false, 2e-7},
    {"identity_error", "|y - x| at position 0.", false, 1e-12},
    {"accepted", "Positions past the table that are no InvalidShape error; fewer than one.", false,
     0.5},
}};

struct Golden {
  double theta;
  std::size_t head_dim;
  std::size_t num_positions;
};
constexpr std::array<Golden, 6> kGoldens = {{{1e4, 16, 32769},
                                             {1e6, 16, 32769},
                                             {1e7, 16, 32769},
                                             {1e6, 64, 1002},
                                             {1e7, 128, 1002},
                                             {1e6, 4, 131072}}};
constexpr std::array<std::size_t, 6> kPositions = {0, 1, 2, 1000, 32767, 100003};
constexpr std::size_t kNumHeads = 2;

// Component `row` of the rotated basis vector e_column at `position`.
double golden(const Golden& golden_case, std::size_t position, std::size_t row,
              std::size_t column) {
  const std::size_t half = golden_case.head_dim / 2;
  if (row % half != column % half) return 0.0;
  const long double exponent =
      -2.0L * static_cast<long double>(row % half) / static_cast<long double>(golden_case.head_dim);
  const long double angle = static_cast<long double>(position) *
                            std::pow(static_cast<long double>(golden_case.theta), exponent);
  if (row == column) return static_cast<double>(std::cos(angle));
  return static_cast<double>(row < half ? -std::sin(angle) : std::sin(angle));
}

void measure_position(const Backend& backend, const Golden& golden_case, const RopeTable& table,
                      std::size_t position, PropertyCase& property_case) {
  const std::size_t size = golden_case.head_dim;
  double error = 0.0;
  double identity_error = 0.0;
  for (std::size_t column = 0; column < size; ++column) {
    Matrix<double> x(1, kNumHeads * size);
    for (std::size_t head = 0; head < kNumHeads; ++head) x(0, head * size + column) = 1.0;
    const auto y = backend.rope(table, kNumHeads, position, x.view());
    if (!property_case.require_ok(y, "rope")) return;
    for (std::size_t i = 0; i < y->columns(); ++i) {
      const double expected = golden(golden_case, position, i % size, column);
      const double distance = std::abs((*y)(0, i) - expected);
      if (!(distance <= error)) error = distance;
      if (position == 0) identity_error += std::abs((*y)(0, i) - x(0, i));
    }
  }
  const std::string where =
      "position " + std::to_string(position) + " head_dim " + std::to_string(size);
  property_case.measure("absolute_error", error, where);
  if (position == 0) property_case.measure("identity_error", identity_error, where);
}

// Several tokens in one call: row t stands at first_position + t.
void measure_rows(const Backend& backend, const Golden& golden_case, const RopeTable& table,
                  PropertyCase& property_case) {
  const std::size_t size = golden_case.head_dim;
  constexpr std::size_t kFirst = 5;
  constexpr std::size_t kRows = 7;
  Matrix<double> x(kRows, size);
  for (std::size_t t = 0; t < kRows; ++t) x(t, 1) = 1.0;
  const auto y = backend.rope(table, 1, kFirst, x.view());
  if (!property_case.require_ok(y, "rope")) return;
  double error = 0.0;
  for (std::size_t t = 0; t < kRows; ++t) {
    for (std::size_t i = 0; i < size; ++i) {
      const double distance = std::abs((*y)(t, i) - golden(golden_case, kFirst + t, i, 1));
      if (!(distance <= error)) error = distance;
    }
  }
  property_case.measure("absolute_error", error, "rows from position 5");
}

void goldens(const Backend& backend, PropertyCase& property_case, std::size_t index) {
  const Golden& golden_case = kGoldens[index];
  const RopeTable table(golden_case.theta, golden_case.head_dim, golden_case.num_positions);
  for (const std::size_t position : kPositions) {
    if (position >= golden_case.num_positions) continue;
    measure_position(backend, golden_case, table, position, property_case);
  }
  for (const std::size_t from_end : {std::size_t{2}, std::size_t{1}}) {
    measure_position(backend, golden_case, table, golden_case.num_positions - from_end,
                     property_case);
  }
  // One row past the table, and two of which the first is its last.
  for (const std::size_t rows : {std::size_t{1}, std::size_t{2}}) {
    const Matrix<double> x(rows, golden_case.head_dim);
    const auto past = backend.rope(table, 1, golden_case.num_positions + 1 - rows, x.view());
    const bool refused = !past && past.error().kind == ErrorKind::kInvalidShape;
    property_case.measure("accepted", refused ? 0.0 : 1.0, "past the table");
  }
  measure_rows(backend, golden_case, table, property_case);
}

}  // namespace

Verdict falsify_rope_matches_golden(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  check_pinned({kId, "goldens"}, criterion, &judge, kGoldens.size(),
               [&](PropertyCase& property_case, std::size_t index) {
                 goldens(subject.backend, property_case, index);
               });
  return judge.verdict();
}

const FalsifierInfo& rope_matches_golden_info() {
  static const FalsifierInfo info = {
      .id = kId,
      .claim =
          "Rotating each basis vector gives the cosines and sines of float64 angles within 2e-7 "
          "absolute, at positions 0, 1, 2, 1000, 32767, 100003 and the last two of the table, for "
          "theta 1e4, 1e6 and 1e7; position 0 is the identity, and a position past the table an "
          "error.",
      .why =
          "Attention only sees differences of positions, so tests of whole attention miss a wrong "
          "theta, sign or pairing that an absolute angle shows.",
      .catches =
          "A wrong theta, sign, pairing of dimensions, position off by one or clamped, float32 "
          "angles, heads that rotate unlike each other.",
      .misses = "Which theta the model file asks for.",
      .source =
          "Su et al., 2021; the reference here is computed in long double, apart from the table "
          "under test.",
      .metrics = kMetrics,
      .backends = kAllBackends,
      .needs_model = false,
      .needs_pack = false,
      .falsify = falsify_rope_matches_golden,
  };
  return info;
}

}  // namespace refute
