// Claim: Every row of a batched matmul equals, bit for bit, the same row multiplied alone, through
//   matvec, q4k_matvec and q6k_gemv too, and rows of NaN beside it change nothing.
// Why: The order of additions depends on the row alone, not on tiles, threads or batch, so prefill
//   and decode see the same numbers.
// Catches: A tile or split chosen by batch size, uninitialised tail rows, scratch shared between
//   rows, a vector path that differs from the batched one.
// Misses: Errors that are the same alone and in a batch.
// Source: Class E of the comparison classes; faults 42, 43, 76 and 83 of the catalogue.
#include "falsifiers/matmul_row_alone_equals_batch.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <string>
#include <string_view>

#include "engine/backend.h"
#include "falsifiers/generators.h"
#include "falsifiers/judge.h"
#include "falsifiers/owned_weights.h"
#include "falsifiers/parity.h"
#include "falsifiers/property.h"

namespace refute {
namespace {

constexpr std::string_view kId = "matmul.row_alone_equals_batch";

constexpr std::array<MetricInfo, 1> kMetrics = {kDifferingElements};

constexpr std::array<std::size_t, 13> kTokens = {1, 2, 7, 8, 9, 31, 32, 33, 63, 64, 65, 127, 129};
constexpr std::array<std::size_t, 6> kRows = {1, 3, 7, 8, 9, 33};

MatrixView<const double> row_of(const Matrix<double>& x, std::size_t row) {
  return {x.row(row).data(), 1, x.columns()};
}

// The public single-row functions on row `t`: all give the bits of matmul.
void single_row_functions(const Backend& backend, const OwnedWeight& weight,
                          const Matrix<double>& x, std::size_t t, MatrixView<const double> expected,
                          PropertyCase& property_case) {
  Matrix<double> y(1, weight.rows);
  if (!property_case.require_ok(backend.matvec(weight.view(), x.row(t), y.flat()), "matvec"))
    return;
  measure_equal_bits(property_case, expected, y.view(), "matvec");
  const bool is_q4k = weight.type == TensorType::kQ4_K;
  if (!is_q4k && weight.type != TensorType::kQ6_K) return;
  std::ranges::fill(y.flat(), 0.0);
  const auto done =
      is_q4k ? backend.q4k_matvec(weight.bytes, weight.rows, weight.columns, x.row(t), y.flat())
             : backend.q6k_gemv(weight.bytes, weight.rows, weight.columns, x.row(t), y.flat());
  const std::string_view name = is_q4k ? "q4k_matvec" : "q6k_gemv";
  if (!property_case.require_ok(done, name)) return;
  measure_equal_bits(property_case, expected, y.view(), name);
}

void measure_rows(const Backend& backend, const OwnedWeight& weight, const Matrix<double>& x,
                  PropertyCase& property_case) {
  const auto batch = backend.matmul(weight.view(), x.view());
  if (!property_case.require_ok(batch, "matmul")) return;
  const std::size_t last = x.rows() - 1;
  const std::size_t any = property_case.integer("row", 0, last);
  for (const std::size_t t : {std::size_t{0}, any, last}) {
    const auto alone = backend.matmul(weight.view(), row_of(x, t));
    if (!property_case.require_ok(alone, "matmul of one row")) return;
    const auto in_batch = row_of(*batch, t);
    measure_equal_bits(property_case, in_batch, alone->view(),
                       "row " + std::to_string(t) + " of " + std::to_string(x.rows()));
  }
  single_row_functions(backend, weight, x, any, row_of(*batch, any), property_case);

  Matrix<double> poisoned = x;
  std::ranges::fill(poisoned.flat(), std::numeric_limits<double>::quiet_NaN());
  std::ranges::copy(x.row(any), poisoned.row(any).begin());
  const auto beside_nan = backend.matmul(weight.view(), poisoned.view());
  if (!property_case.require_ok(beside_nan, "matmul beside rows of NaN")) return;
  measure_equal_bits(property_case, row_of(*batch, any), row_of(*beside_nan, any),
                     "row " + std::to_string(any) + " beside rows of NaN");
}

void pinned_batch(const Backend& backend, PropertyCase& property_case, std::size_t index) {
  const TensorType type = kWeightTypes[index % kWeightTypes.size()];
  const std::size_t tokens = kTokens[index / kWeightTypes.size()];
  const std::size_t rows = kRows[index % kRows.size()];
  const OwnedWeight weight =
      make_weight(type, rows, 512, WeightKind::kPlain, property_case.seed("weight seed"));
  const Matrix<double> x =
      make_activations(ActivationKind::kNormal, tokens, 512, property_case.seed("x seed"));
  measure_rows(backend, weight, x, property_case);
}

void any_batch(const Backend& backend, PropertyCase& property_case) {
  const TensorType type = draw_type(property_case, "type", kWeightTypes);
  const std::size_t columns = draw_columns(property_case, type);
  const std::size_t rows = property_case.integer("rows", 1, 20);
  const std::size_t tokens = property_case.integer("num_tokens", 1, 12);
  const OwnedWeight weight = draw_weight(property_case, rows, columns, type);
  const Matrix<double> x = draw_activations(property_case, tokens, columns);
  measure_rows(backend, weight, x, property_case);
}

}  // namespace

Verdict falsify_row_alone_equals_batch(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  check_pinned({kId, "pinned_batch"}, criterion, &judge, kWeightTypes.size() * kTokens.size(),
               [&](PropertyCase& property_case, std::size_t index) {
                 pinned_batch(subject.backend, property_case, index);
               });
  check_property({kId, "any_batch"}, criterion, &judge,
                 [&](PropertyCase& property_case) { any_batch(subject.backend, property_case); });
  return judge.verdict();
}

const FalsifierInfo& matmul_row_alone_equals_batch_info() {
  static const FalsifierInfo info = {
      .id = kId,
      .claim =
          "Every row of a batched matmul equals, bit for bit, the same row multiplied alone, "
          "through matvec, q4k_matvec and q6k_gemv too, and rows of NaN beside it change nothing.",
      .why =
          "The order of additions depends on the row alone, not on tiles, threads or batch, so "
          "prefill and decode see the same numbers.",
      .catches =
          "A tile or split chosen by batch size, uninitialised tail rows, scratch shared between "
          "rows, a vector path that differs from the batched one.",
      .misses = "Errors that are the same alone and in a batch.",
      .source = "Class E of the comparison classes; faults 42, 43, 76 and 83 of the catalogue.",
      .metrics = kMetrics,
      .backends = kAllBackends,
      .needs_model = false,
      .needs_pack = false,
      .falsify = falsify_row_alone_equals_batch,
  };
  return info;
}

}  // namespace refute
