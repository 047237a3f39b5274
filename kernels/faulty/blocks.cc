#include "kernels/faulty/blocks.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/quant/half.h"

namespace refute::faulty {
namespace {

// Puts `edited` in place of `block` when that changes anything and `asked` says that the fault is
// seeded.
template <typename Block, typename Asked>
void replace(Block& block, const Block& edited, const Asked& asked) {
  if (std::memcmp(&block, &edited, sizeof(Block)) != 0 && asked()) block = edited;
}

template <typename Change>
BlockQ4K with_scales(BlockQ4K block, const Change& change) {
  ScaleMin sub_blocks[8];
  for (int j = 0; j < 8; ++j) {
    sub_blocks[j] = unpack_scale_min(block.scales, j);
    change(j, sub_blocks[j]);
  }
  pack_scale_min(sub_blocks, block.scales);
  return block;
}

void exchange_high_bits(ScaleMin& s) {
  const ScaleMin old = s;
  s.scale = static_cast<std::uint8_t>((old.scale & 15) | (old.min & 48));
  s.min = static_cast<std::uint8_t>((old.min & 15) | (old.scale & 48));
}

BlockQ4K with_swapped_d(BlockQ4K block) {
  std::swap(block.d, block.dmin);
  return block;
}

template <typename Real>
void edit_q6_k_values(const BlockQ6K& block, Real* values) {
  constexpr FaultHost kHost = kFaultHostOf<Real>;
  const Real d = static_cast<Real>(float_from_half(block.d));
  if (d != 0 && fault_seeded("F9", kHost)) {
    for (int i = 0; i < 256; ++i) values[i] += 32 * d * static_cast<Real>(block.scales[i / 16]);
  }
  const bool has_negative = std::ranges::any_of(block.scales, [](int scale) { return scale < 0; });
  if (d != 0 && has_negative && fault_seeded("F10", kHost)) {
    for (int i = 0; i < 256; ++i) {
      const int scale = block.scales[i / 16];
      if (scale < 0)
        values[i] = values[i] / static_cast<Real>(scale) * static_cast<Real>(scale + 256);
    }
  }
}

template <typename Block>
void edit_all(const WeightView& weight, bool vectorised, std::byte* data) {
  const std::size_t count = weight.columns / 256;
  for (std::size_t i = 0; i < weight.rows * count; ++i) {
    Block block;
    std::memcpy(&block, data + i * sizeof(Block), sizeof(Block));
    edit_block(FaultHost::kCpu, i % count, count, block);
    if constexpr (std::is_same_v<Block, BlockQ4K>) {
      const auto asked = [] { return fault_seeded("F91", FaultHost::kCpu); };
      if (vectorised) replace(block, with_swapped_d(block), asked);
    }
    std::memcpy(data + i * sizeof(Block), &block, sizeof(Block));
  }
}

}  // namespace

void edit_block(FaultHost host, std::size_t, std::size_t, BlockQ4K& block) {
  if (fault_armed("F2", host)) {
    const auto swap = [](int, ScaleMin& s) { std::swap(s.scale, s.min); };
    replace(block, with_scales(block, swap), [host] { return fault_seeded("F2", host); });
  }
  if (fault_armed("F3", host)) {
    const auto drop = [](int j, ScaleMin& s) {
      if (j >= 4)
        s = {static_cast<std::uint8_t>(s.scale & 15), static_cast<std::uint8_t>(s.min & 15)};
    };
    replace(block, with_scales(block, drop), [host] { return fault_seeded("F3", host); });
  }
  if (fault_armed("F4", host)) {
    const auto exchange = [](int j, ScaleMin& s) {
      if (j >= 4) exchange_high_bits(s);
    };
    replace(block, with_scales(block, exchange), [host] { return fault_seeded("F4", host); });
  }
  if (fault_armed("F5", host)) {
    BlockQ4K edited = block;
    for (std::uint8_t& q : edited.q) q = static_cast<std::uint8_t>((q << 4) | (q >> 4));
    replace(block, edited, [host] { return fault_seeded("F5", host); });
  }
  const bool has_min = (block.dmin & 0x7fffu) != 0;
  if (has_min && fault_seeded("F6", host)) block.dmin ^= 0x8000u;
  if (has_min && fault_seeded("F7", host)) block.dmin = 0;
  if (fault_armed("F8", host)) {
    replace(block, with_swapped_d(block), [host] { return fault_seeded("F8", host); });
  }
}

void edit_block(FaultHost host, std::size_t index, std::size_t count, BlockQ6K& block) {
  if (fault_armed("F11", host)) {
    // The last quarter's two bits, 6 and 7, are taken from where the third quarter's are.
    BlockQ6K edited = block;
    for (std::uint8_t& high : edited.q_high) {
      high = static_cast<std::uint8_t>((high & 0x3fu) | ((high & 0x30u) << 2));
    }
    replace(block, edited, [host] { return fault_seeded("F11", host); });
  }
  if (fault_armed("F12", host)) {
    BlockQ6K edited = block;
    for (int i = 0; i < 16; i += 2) edited.scales[i + 1] = edited.scales[i];
    replace(block, edited, [host] { return fault_seeded("F12", host); });
  }
  if (fault_armed("F90", host)) {
    // d at byte 207: the last scale is its low byte, its own low byte the high one.
    BlockQ6K edited = block;
    edited.d =
        static_cast<std::uint16_t>(static_cast<std::uint8_t>(block.scales[15]) | (block.d << 8));
    replace(block, edited, [host] { return fault_seeded("F90", host); });
  }
  if (index > 0 && index + 1 == count && fault_armed("F92", host)) {
    // The last block of a row is taken two bytes late and ends in the padding's zeros.
    BlockQ6K edited = {};
    std::memcpy(&edited, reinterpret_cast<const std::byte*>(&block) + 2, sizeof(block) - 2);
    replace(block, edited, [host] { return fault_seeded("F92", host); });
  }
}

void edit_values(const BlockQ6K& block, double* values) { edit_q6_k_values(block, values); }
void edit_values(const BlockQ6K& block, float* values) { edit_q6_k_values(block, values); }

bool edits_rows(TensorType type, bool vectorised) {
  constexpr FaultHost kHost = FaultHost::kCpu;
  if (type == TensorType::kQ4_K) {
    return fault_armed("F2", kHost) || fault_armed("F3", kHost) || fault_armed("F4", kHost) ||
           fault_armed("F5", kHost) || fault_armed("F6", kHost) || fault_armed("F7", kHost) ||
           fault_armed("F8", kHost) || (vectorised && fault_armed("F91", kHost));
  }
  return type == TensorType::kQ6_K && (fault_armed("F11", kHost) || fault_armed("F12", kHost) ||
                                       fault_armed("F90", kHost) || fault_armed("F92", kHost));
}

std::vector<std::byte> edited_rows(const WeightView& weight, bool vectorised) {
  std::vector<std::byte> rows(weight.data, weight.data + weight.bytes());
  if (weight.type == TensorType::kQ4_K) edit_all<BlockQ4K>(weight, vectorised, rows.data());
  if (weight.type == TensorType::kQ6_K) edit_all<BlockQ6K>(weight, vectorised, rows.data());
  return rows;
}

}  // namespace refute::faulty
