// Claim: Changing one bit of one stored byte of one row changes that row of the result and no other
//   row.
// Why: Every stored byte belongs to one row and means something there.
// Catches: Bytes never read, bytes read for another row, a wrong stride between rows or blocks, a
//   block skipped.
// Misses: Bytes read and used wrongly; matmul.one_hot_reads_columns sees those.
// Source: Faults 13, 14, 79 and 92 of the catalogue.
#include "falsifiers/matmul_byte_influence.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "engine/backend.h"
#include "falsifiers/generators.h"
#include "falsifiers/judge.h"
#include "falsifiers/owned_weights.h"
#include "falsifiers/property.h"
#include "falsifiers/seeded_random.h"

namespace refute {
namespace {

constexpr std::string_view kId = "matmul.byte_influence";

constexpr std::array<MetricInfo, 2> kMetrics = {{
    {"silent_bytes", "Changed bytes that do not change their row; fewer than one.", false, 0.5},
    {"foreign_rows", "Other rows that change; fewer than one.", false, 0.5},
}};

// Positive and far from zero in int8 too, so that every element counts and nothing cancels.
Matrix<double> dense_row(std::size_t columns, std::uint64_t seed) {
  Matrix<double> x(1, columns);
  SeededRandom random(seed);
  for (double& value : x.flat()) {
    value = static_cast<double>(static_cast<float>(random.uniform(0.25, 1.0)));
  }
  return x;
}

// The bits to choose from in byte `place` of a block. Of a float16 scale: not its exponent, which
// could become Inf, and not its lowest bits, whose effect may round away where a block's sum is
// near 0.
struct BitRange {
  std::size_t low = 0;
  std::size_t high = 7;
};
BitRange bits_of(TensorType type, std::size_t place) {
  for (const std::size_t offset : scale_offsets(type)) {
    if (place == offset) return {5, 7};
    if (place == offset + 1) return {0, 1};
  }
  return {};
}

void one_byte(const Backend& backend, PropertyCase& property_case) {
  const TensorType type = draw_type(property_case, "type", kQuantizedTypes);
  const std::size_t columns = draw_columns(property_case, type);
  const std::size_t rows = property_case.integer("rows", 1, 12);
  OwnedWeight weight =
      make_weight(type, rows, columns, WeightKind::kPlain, property_case.seed("weight seed"));
  const Matrix<double> x = dense_row(columns, property_case.seed("x seed"));
  const auto before = backend.matmul(weight.view(), x.view());

  const std::size_t row = property_case.integer("row", 0, rows - 1);
  const std::size_t row_size = weight.view().bytes_per_row();
  const std::size_t byte = property_case.integer("byte", 0, row_size - 1);
  const BitRange bits = bits_of(type, byte % tensor_type_info(type).block_bytes);
  weight.bytes[row * row_size + byte] ^= std::byte{1}
                                         << property_case.integer("bit", bits.low, bits.high);
  const auto after = backend.matmul(weight.view(), x.view());
  if (!property_case.require_ok(before, "matmul") || !property_case.require_ok(after, "matmul")) {
    return;
  }
  double foreign = 0.0;
  for (std::size_t r = 0; r < rows; ++r) {
    if (r != row && (*before)(0, r) != (*after)(0, r)) foreign += 1.0;
  }
  const std::string where = std::string(tensor_type_info(type).name) + " row " +
                            std::to_string(row) + " byte " + std::to_string(byte);
  property_case.measure("foreign_rows", foreign, where);
  property_case.measure("silent_bytes", (*before)(0, row) == (*after)(0, row) ? 1.0 : 0.0, where);
}

// Every byte of the last block of the last row, one after the other.
void last_block(const Backend& backend, PropertyCase& property_case, std::size_t index) {
  const TensorType type = kQuantizedTypes[index];
  OwnedWeight weight = make_weight(type, 9, 512, WeightKind::kPlain, property_case.seed("seed"));
  const Matrix<double> x = dense_row(512, 7);
  const auto before = backend.matmul(weight.view(), x.view());
  if (!property_case.require_ok(before, "matmul")) return;
  const std::size_t block_bytes = tensor_type_info(type).block_bytes;
  const std::size_t first = weight.bytes.size() - block_bytes;
  for (std::size_t place = 0; place < block_bytes; ++place) {
    const std::byte bit = std::byte{1} << bits_of(type, place).low;
    weight.bytes[first + place] ^= bit;
    const auto after = backend.matmul(weight.view(), x.view());
    weight.bytes[first + place] ^= bit;
    if (!property_case.require_ok(after, "matmul")) return;
    const bool changed = (*before)(0, 8) != (*after)(0, 8);
    property_case.measure(
        "silent_bytes", changed ? 0.0 : 1.0,
        std::string(tensor_type_info(type).name) + " last block byte " + std::to_string(place));
  }
}

}  // namespace

Verdict falsify_byte_influence(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  check_property({kId, "one_byte"}, criterion, &judge,
                 [&](PropertyCase& property_case) { one_byte(subject.backend, property_case); });
  check_pinned({kId, "last_block"}, criterion, &judge, kQuantizedTypes.size(),
               [&](PropertyCase& property_case, std::size_t index) {
                 last_block(subject.backend, property_case, index);
               });
  return judge.verdict();
}

const FalsifierInfo& matmul_byte_influence_info() {
  static const FalsifierInfo info = {
      .id = kId,
      .claim =
          "Changing one bit of one stored byte of one row changes that row of the result and no "
          "other row.",
      .why = "Every stored byte belongs to one row and means something there.",
      .catches =
          "Bytes never read, bytes read for another row, a wrong stride between rows or blocks, a "
          "block skipped.",
      .misses = "Bytes read and used wrongly; matmul.one_hot_reads_columns sees those.",
      .source = "Faults 13, 14, 79 and 92 of the catalogue.",
      .metrics = kMetrics,
      .backends = kAllBackends,
      .needs_model = false,
      .needs_pack = false,
      .falsify = falsify_byte_influence,
  };
  return info;
}

}  // namespace refute
