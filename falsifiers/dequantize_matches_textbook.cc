// Claim: Dequantization, read through the embedding lookup, equals an independent textbook decoder
//   bit for bit: every byte value at every place of a block of every type, and all 64 x 64 pairs of
//   6-bit scale and minimum at all 8 places; and a textbook encoder makes of the values the stored
//   quants again.
// Why: A stored block has one meaning; float64 holds it exactly and float32 is that value rounded
//   once.
// Catches: Nibble order, high bits, scale and minimum mixed up, signs, half precision subnormals,
//   the offset of 32, wrong block size.
// Misses: How a matmul kernel reads the same bytes; matmul.one_hot_reads_columns sees that.
// Source: The description of the GGUF block formats.
#include "falsifiers/dequantize_matches_textbook.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/backend.h"
#include "falsifiers/generators.h"
#include "falsifiers/judge.h"
#include "falsifiers/owned_weights.h"
#include "falsifiers/parity.h"
#include "falsifiers/property.h"
#include "falsifiers/seeded_random.h"
#include "falsifiers/textbook.h"
#include "kernels/quant/blocks.h"

namespace refute {
namespace {

constexpr std::string_view kId = "dequantize.matches_textbook";

constexpr std::array<MetricInfo, 3> kMetrics = {{
    kDifferingElements,
    {"unpacked_wrong", "6-bit pairs that do not survive packing and unpacking; fewer than one.",
     false, 0.5},
    {"changed_bytes", "Stored bytes that encoding the decoded values changes; fewer than one.",
     false, 0.5},
}};

// What a backend of float64 or float32 results must return.
double as_returned(BackendId id, double exact) {
  return id == BackendId::kOracle ? exact : static_cast<double>(static_cast<float>(exact));
}

void measure_rows(const Backend& backend, const OwnedWeight& weight, PropertyCase& property_case) {
  std::vector<std::int32_t> tokens(weight.rows);
  std::iota(tokens.begin(), tokens.end(), 0);
  const auto found = backend.embed(weight.view(), tokens);
  if (!property_case.require_ok(found, "embed")) return;
  Matrix<double> expected(weight.rows, weight.columns);
  for (std::size_t r = 0; r < weight.rows; ++r) {
    for (std::size_t c = 0; c < weight.columns; ++c) {
      const double exact = textbook::element(weight.type, weight.view().row(r), c).value;
      // The sign of a zero is not part of a stored value.
      expected(r, c) = as_returned(backend.id(), exact) + 0.0;
    }
  }
  Matrix<double> positive_zeros = *found;
  for (double& value : positive_zeros.flat()) value += 0.0;
  measure_equal_bits(property_case, expected.view(), positive_zeros.view(),
                     std::string(tensor_type_info(weight.type).name) + " rows");
}

// Float16 scales must be finite: a model with others is refused when it is loaded.
void keep_scales_finite(OwnedWeight* weight) {
  const TensorTypeInfo& info = tensor_type_info(weight->type);
  for (std::size_t block = 0; block < weight->bytes.size(); block += info.block_bytes) {
    for (const std::size_t offset : scale_offsets(weight->type)) {
      std::byte& high = weight->bytes[block + offset + 1];
      if ((high & std::byte{0x7c}) == std::byte{0x7c}) high &= std::byte{0xbf};
    }
  }
}

// 256 blocks, in which each place takes each byte value once, in an order of its own.
void every_byte(const Backend& backend, PropertyCase& property_case, std::size_t index) {
  const TensorType type = kQuantizedTypes[index];
  const TensorTypeInfo& info = tensor_type_info(type);
  OwnedWeight weight{type, 256, info.block_size, std::vector<std::byte>(256 * info.block_bytes)};
  const std::uint64_t seed = property_case.seed("order");
  for (std::size_t place = 0; place < info.block_bytes; ++place) {
    const auto values = make_permutation(256, mix_seed(seed, place));
    for (std::size_t row = 0; row < 256; ++row) {
      weight.bytes[row * info.block_bytes + place] = static_cast<std::byte>(values[row]);
    }
  }
  keep_scales_finite(&weight);
  measure_rows(backend, weight, property_case);
}

// All finite patterns of 16 bits.
void every_half(const Backend& backend, PropertyCase& property_case, std::size_t index) {
  const TensorType type = index == 0 ? TensorType::kF16 : TensorType::kBF16;
  const unsigned exponent = index == 0 ? 0x7c00 : 0x7f80;
  OwnedWeight weight{type, 256, 256, std::vector<std::byte>(std::size_t{2} << 16)};
  for (unsigned bits = 0; bits < 1u << 16; ++bits) {
    const bool finite = (bits & exponent) != exponent;
    const auto stored = static_cast<std::uint16_t>(finite ? bits : 0);
    std::memcpy(weight.bytes.data() + 2 * std::size_t{bits}, &stored, 2);
  }
  measure_rows(backend, weight, property_case);
}

// Block b holds at sub-block j a pair that runs through all 64 x 64 as b does.
void every_scale_min(const Backend& backend, PropertyCase& property_case, std::size_t index) {
  const TensorType type = index == 0 ? TensorType::kQ4_K : TensorType::kQ5_K;
  const std::size_t block_bytes = tensor_type_info(type).block_bytes;
  OwnedWeight weight = make_weight(type, 4096, 256, WeightKind::kPlain, property_case.seed("seed"));
  double wrong = 0.0;
  for (std::size_t block = 0; block < 4096; ++block) {
    std::byte* bytes = weight.bytes.data() + block * block_bytes;
    ScaleMin pairs[8];
    for (std::size_t j = 0; j < 8; ++j) {
      const textbook::ScaleMin pair = {static_cast<unsigned>((block + 9 * j) % 64),
                                       static_cast<unsigned>((block / 64 + 23 * j) % 64)};
      textbook::set_scale_min(std::span<std::byte, 12>(bytes + 4, 12), j, pair);
      pairs[j] = {static_cast<std::uint8_t>(pair.scale), static_cast<std::uint8_t>(pair.min)};
    }
    std::uint8_t packed[12];
    pack_scale_min(pairs, packed);
    if (std::memcmp(packed, bytes + 4, sizeof(packed)) != 0) wrong += 1.0;
    for (int j = 0; j < 8; ++j) {
      const ScaleMin pair = unpack_scale_min(packed, j);
      if (pair.scale != pairs[j].scale || pair.min != pairs[j].min) wrong += 1.0;
    }
  }
  property_case.measure("unpacked_wrong", wrong, "6-bit scales and minimums");
  measure_rows(backend, weight, property_case);
}

// Canonical blocks: no step is 0, so that every quant can be told from its value, and Q8_0 holds no
// -128. They come back whole, from blocks whose quants were wiped.
void round_trip(const Backend& backend, PropertyCase& property_case, std::size_t index) {
  const TensorType type = kQuantizedTypes[index];
  constexpr std::size_t kRows = 16;
  OwnedWeight weight =
      make_weight(type, kRows, 512, WeightKind::kPlain, property_case.seed("seed"));
  const std::size_t row_size = weight.view().bytes_per_row();
  const auto row_of = [row_size](OwnedWeight& stored, std::size_t r) {
    return stored.bytes.data() + r * row_size;
  };
  const int lowest = type == TensorType::kQ8_0 ? -127 : type == TensorType::kQ6_K ? -32 : 0;
  for (std::size_t r = 0; r < kRows && type == TensorType::kQ8_0; ++r) {
    for (std::size_t c = 0; c < weight.columns; ++c) {
      std::byte& quant = weight.bytes[r * row_size + c / 32 * 34 + 2 + c % 32];
      if (quant == std::byte{0x80}) quant = std::byte{0x81};
    }
  }
  std::vector<std::int32_t> tokens(kRows);
  std::iota(tokens.begin(), tokens.end(), 0);
  const auto values = backend.embed(weight.view(), tokens);
  if (!property_case.require_ok(values, "embed")) return;
  OwnedWeight encoded = weight;
  for (std::size_t r = 0; r < kRows; ++r) {
    for (std::size_t c = 0; c < weight.columns; ++c) {
      textbook::set_quant(type, row_of(encoded, r), c, lowest);
    }
  }
  const bool wiped = encoded.bytes != weight.bytes;
  if (!property_case.require(wiped, "the blocks hold no quants")) return;
  const int highest = type == TensorType::kQ8_0 ? 127 : type == TensorType::kQ4_K ? 15 : 31;
  for (std::size_t r = 0; r < kRows; ++r) {
    for (std::size_t c = 0; c < weight.columns; ++c) {
      const auto [step, offset] = textbook::steps(type, row_of(weight, r), c);
      const double quant = std::round(((*values)(r, c) + offset) / step);
      const bool in_range = quant >= lowest && quant <= highest;
      if (!property_case.require(in_range, "a value is out of its block's range")) return;
      textbook::set_quant(type, row_of(encoded, r), c, static_cast<int>(quant));
    }
  }
  double changed = 0.0;
  for (std::size_t i = 0; i < weight.bytes.size(); ++i) {
    if (encoded.bytes[i] != weight.bytes[i]) changed += 1.0;
  }
  property_case.measure("changed_bytes", changed,
                        std::string(tensor_type_info(type).name) + " encoded again");
}

void any_rows(const Backend& backend, PropertyCase& property_case) {
  const TensorType type = draw_type(property_case, "type", kWeightTypes);
  const std::size_t columns = draw_columns(property_case, type);
  const std::size_t rows = property_case.integer("rows", 1, 8);
  measure_rows(backend, draw_weight(property_case, rows, columns, type), property_case);
}

}  // namespace

Verdict falsify_dequantize_matches_textbook(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  const auto check = [&](std::string_view name, std::size_t count, auto property) {
    check_pinned({kId, name}, criterion, &judge, count,
                 [&](PropertyCase& property_case, std::size_t index) {
                   property(subject.backend, property_case, index);
                 });
  };
  check("every_byte", kQuantizedTypes.size(), every_byte);
  check("every_half", 2, every_half);
  check("every_scale_min", 2, every_scale_min);
  check("round_trip", kQuantizedTypes.size(), round_trip);
  check_property({kId, "any_rows"}, criterion, &judge,
                 [&](PropertyCase& property_case) { any_rows(subject.backend, property_case); });
  return judge.verdict();
}

const FalsifierInfo& dequantize_matches_textbook_info() {
  static const FalsifierInfo info = {
      .id = kId,
      .claim =
          "Dequantization, read through the embedding lookup, equals an independent textbook "
          "decoder bit for bit: every byte value at every place of a block of every type, and all "
          "64 x 64 pairs of 6-bit scale and minimum at all 8 places; and a textbook encoder makes "
          "of the values the stored quants again.",
      .why =
          "A stored block has one meaning; float64 holds it exactly and float32 is that value "
          "rounded once.",
      .catches =
          "Nibble order, high bits, scale and minimum mixed up, signs, half precision subnormals, "
          "the offset of 32, wrong block size.",
      .misses = "How a matmul kernel reads the same bytes; matmul.one_hot_reads_columns sees that.",
      .source = "The description of the GGUF block formats.",
      .metrics = kMetrics,
      .backends = kAllBackends,
      .needs_model = false,
      .needs_pack = false,
      .falsify = falsify_dequantize_matches_textbook,
  };
  return info;
}

}  // namespace refute
