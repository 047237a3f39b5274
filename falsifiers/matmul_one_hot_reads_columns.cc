// Claim: A one-hot activation reads out the dequantized column of the weight, within 2.4e-7 of |d
//   scale quant| + |dmin min|, at the columns where sub-blocks, nibbles and super-blocks meet and
//   at random ones; and activations of integers give the textbook's dot product within a quarter of
//   8 sqrt(n) 2^-24 sum |w x|.
// Why: With 127 at one column the activation scale is exactly 1, so the kernel itself reports each
//   weight with at most a few roundings; integers up to 127, 127 among them in each block, are
//   their own quants.
// Catches: Any misread byte, nibble, scale, minimum or stride, on the very kernel that multiplies;
//   a last block read at the wrong offset, float16 accumulation (also where it overflows), columns
//   left out.
// Misses: How activations are rounded; activation.quantization_matches_definition sees that.
// Source: Formats of ggml through an independent decoder; faults 91, 92 and 107a of the catalogue.
#include "falsifiers/matmul_one_hot_reads_columns.h"

#include <array>
#include <cmath>
#include <cstddef>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "engine/backend.h"
#include "falsifiers/generators.h"
#include "falsifiers/judge.h"
#include "falsifiers/owned_weights.h"
#include "falsifiers/property.h"
#include "falsifiers/seeded_random.h"
#include "falsifiers/textbook.h"

namespace refute {
namespace {

constexpr std::string_view kId = "matmul.one_hot_reads_columns";

constexpr std::array<MetricInfo, 2> kMetrics = {{
    {"readout_error", "|y / x - w| over |d scale quant| + |dmin min|.", false, 2.4e-7},
    {"elementwise_ratio", "|y - textbook| over 8 sqrt(n) 2^-24 sum |w x|, activations of integers.",
     false, 0.25},
}};

constexpr std::array<std::size_t, 12> kColumns = {0,  15,  16,  31,  32,  63,
                                                  64, 127, 128, 255, 256, 511};
constexpr std::array<std::size_t, 4> kRows = {1, 7, 9, 33};
constexpr std::array<std::size_t, 3> kSuperBlocks = {1, 2, 9};

void read_out(const Backend& backend, const OwnedWeight& weight,
              const std::vector<std::size_t>& columns, double active, PropertyCase& property_case) {
  Matrix<double> x(columns.size(), weight.columns);
  for (std::size_t t = 0; t < columns.size(); ++t) x(t, columns[t]) = active;
  const auto y = backend.matmul(weight.view(), x.view());
  if (!property_case.require_ok(y, "matmul")) return;
  double worst = 0.0;
  std::string where = "all columns";
  for (std::size_t t = 0; t < columns.size(); ++t) {
    for (std::size_t r = 0; r < weight.rows; ++r) {
      const auto expected = textbook::element(weight.type, weight.view().row(r), columns[t]);
      const double error = std::abs((*y)(t, r) / active - expected.value);
      const double relative = error == 0.0 ? 0.0 : error / expected.magnitude;
      if (relative <= worst) continue;
      worst = relative;
      where = "row " + std::to_string(r) + " column " + std::to_string(columns[t]);
    }
  }
  property_case.measure("readout_error", worst,
                        std::string(tensor_type_info(weight.type).name) + " " + where);
}

std::vector<std::size_t> pinned_columns(std::size_t count) {
  std::set<std::size_t> columns = {count - 1};
  for (const std::size_t column : kColumns) {
    if (column < count) columns.insert(column);
  }
  return {columns.begin(), columns.end()};
}

void pinned(const Backend& backend, PropertyCase& property_case, std::size_t index) {
  const TensorType type = kWeightTypes[index % kWeightTypes.size()];
  const std::size_t rows = kRows[index / kWeightTypes.size()];
  const OwnedWeight weight =
      make_weight(type, rows, 768, WeightKind::kPlain, property_case.seed("weight seed"));
  const double active = index % 2 == 0 ? 127.0 : -127.0;
  read_out(backend, weight, pinned_columns(768), active, property_case);
  // Past what float16 holds; a power of two changes nothing else.
  read_out(backend, weight, pinned_columns(768), 0x1p24 * active, property_case);
}

void any(const Backend& backend, PropertyCase& property_case) {
  const TensorType type = draw_type(property_case, "type", kWeightTypes);
  const std::size_t count = draw_columns(property_case, type);
  const std::size_t rows = property_case.integer("rows", 1, 20);
  const OwnedWeight weight = draw_weight(property_case, rows, count, type);
  const double active = property_case.flag("negative") ? -127.0 : 127.0;
  read_out(backend, weight, {property_case.integer("column", 0, count - 1), count - 1}, active,
           property_case);
}

// Activations that are their own quants: the product is known without a model of the rounding.
void integers(const Backend& backend, PropertyCase& property_case, std::size_t index) {
  const TensorType type = kWeightTypes[index % kWeightTypes.size()];
  const std::size_t count = 256 * kSuperBlocks[index / kWeightTypes.size()];
  constexpr std::size_t kRowsOfProduct = 9;
  constexpr std::size_t kTokens = 3;
  const OwnedWeight weight = make_weight(type, kRowsOfProduct, count, WeightKind::kPlain,
                                         property_case.seed("weight seed"));
  SeededRandom random(property_case.seed("x seed"));
  Matrix<double> x(kTokens, count);
  for (std::size_t i = 0; i < x.size(); ++i) {
    x.flat()[i] = i % 32 == 0 ? 127.0 : static_cast<double>(random.below(255)) - 127.0;
  }
  const auto y = backend.matmul(weight.view(), x.view());
  if (!property_case.require_ok(y, "matmul")) return;
  const double slack = 8.0 * std::sqrt(static_cast<double>(count)) * 0x1p-24;
  double worst = 0.0;
  for (std::size_t r = 0; r < weight.rows; ++r) {
    for (std::size_t t = 0; t < kTokens; ++t) {
      double sum = 0.0;
      double magnitude = 0.0;
      for (std::size_t c = 0; c < count; ++c) {
        const auto element = textbook::element(type, weight.view().row(r), c);
        sum += element.value * x(t, c);
        magnitude += element.magnitude * std::abs(x(t, c));
      }
      const double ratio = std::abs((*y)(t, r) - sum) / (slack * magnitude);
      if (!(ratio <= worst)) worst = ratio;
    }
  }
  property_case.measure("elementwise_ratio", worst,
                        std::string(tensor_type_info(type).name) + " of " + std::to_string(count) +
                            " columns, integers");
}

}  // namespace

Verdict falsify_one_hot_reads_columns(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  check_pinned({kId, "pinned"}, criterion, &judge, kWeightTypes.size() * kRows.size(),
               [&](PropertyCase& property_case, std::size_t index) {
                 pinned(subject.backend, property_case, index);
               });
  check_pinned({kId, "integers"}, criterion, &judge, kWeightTypes.size() * kSuperBlocks.size(),
               [&](PropertyCase& property_case, std::size_t index) {
                 integers(subject.backend, property_case, index);
               });
  check_property({kId, "any"}, criterion, &judge,
                 [&](PropertyCase& property_case) { any(subject.backend, property_case); });
  return judge.verdict();
}

const FalsifierInfo& matmul_one_hot_reads_columns_info() {
  static const FalsifierInfo info = {
      .id = kId,
      .claim =
          "A one-hot activation reads out the dequantized column of the weight, within 2.4e-7 of "
          "|d scale quant| + |dmin min|, at the columns where sub-blocks, nibbles and super-blocks "
          "meet and at random ones; and activations of integers give the textbook's dot product "
          "within a quarter of 8 sqrt(n) 2^-24 sum |w x|.",
      .why =
          "With 127 at one column the activation scale is exactly 1, so the kernel itself reports "
          "each weight with at most a few roundings.",
      .catches =
          "Any misread byte, nibble, scale, minimum or stride, on the very kernel that multiplies; "
          "a last block read at the wrong offset, float16 accumulation, columns left out.",
      .misses = "How activations are rounded.",
      .source =
          "Formats of ggml through an independent decoder; faults 91, 92 and 107a of the "
          "catalogue.",
      .metrics = kMetrics,
      .backends = kAllBackends,
      .needs_model = false,
      .needs_pack = false,
      .falsify = falsify_one_hot_reads_columns,
  };
  return info;
}

}  // namespace refute
