#include "kernels/quant/dequantize.h"

#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels/check.h"
#include "kernels/faulty/blocks.h"
#include "kernels/quant/blocks.h"
#include "kernels/quant/half.h"

namespace refute {
namespace {

// Reads block `index`; memcpy because stored rows are only 2-byte aligned.
template <typename Block>
Block load_block(const std::byte* row, std::size_t index) {
  Block block;
  std::memcpy(&block, row + index * sizeof(Block), sizeof(Block));
  return block;
}

template <typename Real>
void dequantize_block(const BlockQ8_0& block, Real* values) {
  const Real d = static_cast<Real>(float_from_half(block.d));
  for (int i = 0; i < 32; ++i) values[i] = d * static_cast<Real>(block.q[i]);
}

// d * scale has at most 17 significant bits and d * scale * q at most 22, both exact in float32;
// the subtraction is the one rounding.
template <typename Real>
void dequantize_block(const BlockQ4K& block, Real* values) {
  const Real d = static_cast<Real>(float_from_half(block.d));
  const Real dmin = static_cast<Real>(float_from_half(block.dmin));
  for (int j = 0; j < 8; ++j) {
    const ScaleMin s = unpack_scale_min(block.scales, j);
    for (int l = 0; l < 32; ++l) {
      const std::uint8_t byte = block.q[32 * (j / 2) + l];
      const int q = j % 2 == 0 ? byte & 15 : byte >> 4;
      values[32 * j + l] =
          d * static_cast<Real>(s.scale) * static_cast<Real>(q) - dmin * static_cast<Real>(s.min);
    }
  }
}

template <typename Real>
void dequantize_block(const BlockQ5K& block, Real* values) {
  const Real d = static_cast<Real>(float_from_half(block.d));
  const Real dmin = static_cast<Real>(float_from_half(block.dmin));
  for (int j = 0; j < 8; ++j) {
    const ScaleMin s = unpack_scale_min(block.scales, j);
    for (int l = 0; l < 32; ++l) {
      const std::uint8_t byte = block.q[32 * (j / 2) + l];
      const int low = j % 2 == 0 ? byte & 15 : byte >> 4;
      const int q = low | (((block.q_high[l] >> j) & 1) << 4);
      values[32 * j + l] =
          d * static_cast<Real>(s.scale) * static_cast<Real>(q) - dmin * static_cast<Real>(s.min);
    }
  }
}

template <typename Real>
void dequantize_block(const BlockQ6K& block, Real* values) {
  const Real d = static_cast<Real>(float_from_half(block.d));
  for (int half = 0; half < 2; ++half) {
    for (int quarter = 0; quarter < 4; ++quarter) {
      const int shift_low = quarter < 2 ? 0 : 4;
      for (int l = 0; l < 32; ++l) {
        const int i = 128 * half + 32 * quarter + l;
        const int low = (block.q_low[64 * half + 32 * (quarter % 2) + l] >> shift_low) & 15;
        const int high = (block.q_high[32 * half + l] >> (2 * quarter)) & 3;
        const int q = (low | (high << 4)) - 32;
        values[i] = d * static_cast<Real>(block.scales[i / 16]) * static_cast<Real>(q);
      }
    }
  }
}

template <typename Block, typename Real>
void dequantize_blocks(const std::byte* row, std::span<Real> values, std::size_t block_size) {
  const std::size_t count = values.size() / block_size;
  for (std::size_t b = 0; b < count; ++b) {
    Block block = load_block<Block>(row, b);
    if constexpr (kFaultSites) faulty::edit_block(kFaultHostOf<Real>, b, count, block);
    dequantize_block(block, values.data() + b * block_size);
    if constexpr (kFaultSites) faulty::edit_values(block, values.data() + b * block_size);
  }
}

template <typename Real>
void dequantize_any(TensorType type, const std::byte* row, std::span<Real> values) {
  const TensorTypeInfo& info = tensor_type_info(type);
  CHECK(info.is_weight);
  CHECK(values.size() % info.block_size == 0);
  switch (type) {
    case TensorType::kF32:
      for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] = static_cast<Real>(load_block<float>(row, i));
      }
      return;
    case TensorType::kF16:
      for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] = static_cast<Real>(float_from_half(load_block<std::uint16_t>(row, i)));
      }
      return;
    case TensorType::kBF16:
      for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] = static_cast<Real>(float_from_bfloat16(load_block<std::uint16_t>(row, i)));
      }
      return;
    case TensorType::kQ8_0:
      return dequantize_blocks<BlockQ8_0>(row, values, info.block_size);
    case TensorType::kQ4_K:
      return dequantize_blocks<BlockQ4K>(row, values, info.block_size);
    case TensorType::kQ5_K:
      return dequantize_blocks<BlockQ5K>(row, values, info.block_size);
    case TensorType::kQ6_K:
      return dequantize_blocks<BlockQ6K>(row, values, info.block_size);
    case TensorType::kI32:
    case TensorType::kF64:
      break;
  }
  CHECK(false);
}

}  // namespace

void dequantize_row(TensorType type, const std::byte* row, std::span<double> values) {
  dequantize_any(type, row, values);
}

void dequantize_row(TensorType type, const std::byte* row, std::span<float> values) {
  dequantize_any(type, row, values);
}

bool row_scales_are_finite(TensorType type, const std::byte* row, std::size_t columns) {
  const auto half_is_finite = [](std::uint16_t half) { return (half & 0x7c00u) != 0x7c00u; };
  bool finite = true;
  const std::size_t blocks = columns / tensor_type_info(type).block_size;
  for (std::size_t b = 0; b < blocks; ++b) {
    switch (type) {
      case TensorType::kF32:
        finite &= std::isfinite(load_block<float>(row, b));
        break;
      case TensorType::kF16:
        finite &= half_is_finite(load_block<std::uint16_t>(row, b));
        break;
      case TensorType::kBF16:
        finite &= (load_block<std::uint16_t>(row, b) & 0x7f80u) != 0x7f80u;
        break;
      case TensorType::kQ8_0:
        finite &= half_is_finite(load_block<std::uint16_t>(row + b * sizeof(BlockQ8_0), 0));
        break;
      case TensorType::kQ4_K: {
        const auto* at = row + b * sizeof(BlockQ4K);
        finite &= half_is_finite(load_block<std::uint16_t>(at, 0)) &&
                  half_is_finite(load_block<std::uint16_t>(at, 1));
        break;
      }
      case TensorType::kQ5_K: {
        const auto* at = row + b * sizeof(BlockQ5K);
        finite &= half_is_finite(load_block<std::uint16_t>(at, 0)) &&
                  half_is_finite(load_block<std::uint16_t>(at, 1));
        break;
      }
      case TensorType::kQ6_K:
        finite &= half_is_finite(load_block<std::uint16_t>(row + b * sizeof(BlockQ6K), 104));
        break;
      case TensorType::kI32:
      case TensorType::kF64:
        CHECK(false);
    }
  }
  return finite;
}

}  // namespace refute
