// Packing is a table: which parts a block has, and how wide the pieces are that keep together.
#include "kernels/cpu/tiles.h"

#include <array>
#include <cstring>
#include <span>

#include "kernels/check.h"
#include "kernels/cpu/simd.h"
#include "kernels/quant/blocks.h"

namespace refute::cpu {
namespace {

constexpr std::size_t kLine = 64;

// `count` pieces of `width` bytes from byte `offset` of a row's 256 columns on.
struct Part {
  std::size_t offset;
  std::size_t width;
  std::size_t count;
};

constexpr Part kPartsQ4K[] = {{0, 2, 2}, {4, 1, 12}, {16, 4, 32}};
constexpr Part kPartsQ5K[] = {{0, 2, 2}, {4, 1, 12}, {16, 4, 8}, {48, 4, 32}};
constexpr Part kScalesQ6K[] = {{192, 1, 16}};
constexpr Part kFactorQ6K[] = {{208, 2, 1}};
// In the order in which the kernel needs them: 128 columns are 8 times 4 of l and l + 64, 4 of l +
// 32 and l + 96, and the high bits of all (kernels/quant/blocks.h).
constexpr auto kPartsQ6K = [] {
  std::array<Part, 48> parts{};
  for (std::size_t i = 0; i < 16; ++i) {
    const std::size_t half = i / 8;
    const std::size_t l = 4 * (i % 8);
    parts[3 * i] = {64 * half + l, 4, 1};
    parts[3 * i + 1] = {64 * half + 32 + l, 4, 1};
    parts[3 * i + 2] = {128 + 32 * half + l, 4, 1};
  }
  return parts;
}();
constexpr Part kPartsQ8_0[] = {{0, 2, 1},   {34, 2, 1},  {68, 2, 1},  {102, 2, 1},
                               {136, 2, 1}, {170, 2, 1}, {204, 2, 1}, {238, 2, 1},
                               {2, 4, 8},   {36, 4, 8},  {70, 4, 8},  {104, 4, 8},
                               {138, 4, 8}, {172, 4, 8}, {206, 4, 8}, {240, 4, 8}};

// Parts of all tiles of a group before the next section, which starts at a multiple of `alignment`.
struct Section {
  std::span<const Part> parts;
  std::size_t alignment = 1;
};

constexpr Section kSectionsQ4K[] = {{kPartsQ4K}};
constexpr Section kSectionsQ5K[] = {{kPartsQ5K}};
constexpr Section kSectionsQ6K[] = {{kScalesQ6K}, {kFactorQ6K}, {kPartsQ6K, kLine}};
constexpr Section kSectionsQ8_0[] = {{kPartsQ8_0}};

std::span<const Section> sections_of(TensorType type) {
  switch (type) {
    case TensorType::kQ8_0:
      return kSectionsQ8_0;
    case TensorType::kQ4_K:
      return kSectionsQ4K;
    case TensorType::kQ5_K:
      return kSectionsQ5K;
    case TensorType::kQ6_K:
      return kSectionsQ6K;
    default:
      return {};
  }
}

std::size_t rounded_up(std::size_t bytes, std::size_t alignment) {
  return (bytes + alignment - 1) / alignment * alignment;
}

template <std::size_t kWidth>
std::byte* interleave(const std::byte* from, std::size_t bytes_per_row, std::size_t count,
                      std::byte* to) {
  for (std::size_t i = 0; i < count; ++i) {
    for (std::size_t r = 0; r < kTileRows; ++r) {
      std::memcpy(to, from + r * bytes_per_row + i * kWidth, kWidth);
      to += kWidth;
    }
  }
  return to;
}

std::byte* interleave(const Part& part, const std::byte* from, std::size_t bytes_per_row,
                      std::byte* to) {
  from += part.offset;
  switch (part.width) {
    case 1:
      return interleave<1>(from, bytes_per_row, part.count, to);
    case 2:
      return interleave<2>(from, bytes_per_row, part.count, to);
    default:
      return interleave<4>(from, bytes_per_row, part.count, to);
  }
}

}  // namespace

bool has_tiles(TensorType type, std::size_t columns) {
  return columns > 0 && columns % kTileColumns == 0 && !sections_of(type).empty();
}

bool uses_tiles(const Context& context) { return context.simd().tiles != nullptr; }

std::size_t group_bytes(TensorType type, std::size_t columns) {
  return rounded_up(kTileRows * row_bytes(type, columns), kLine);
}

void pack_tiles(TensorType type, std::size_t groups, std::size_t columns, const std::byte* rows,
                std::byte* tiles) {
  CHECK(has_tiles(type, columns));
  const std::size_t bytes_per_row = row_bytes(type, columns);
  const std::size_t step = row_bytes(type, kTileColumns);
  for (std::size_t g = 0; g < groups; ++g) {
    const std::byte* const from = rows + g * kTileRows * bytes_per_row;
    std::byte* const group = tiles + g * group_bytes(type, columns);
    std::byte* to = group;
    for (const Section& section : sections_of(type)) {
      const auto written = static_cast<std::size_t>(to - group);
      to = group + rounded_up(written, section.alignment);
      for (std::size_t at = 0; at < bytes_per_row; at += step) {
        for (const Part& part : section.parts) to = interleave(part, from + at, bytes_per_row, to);
      }
    }
  }
}

}  // namespace refute::cpu
