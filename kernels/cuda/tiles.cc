#include "kernels/cuda/tiles.h"

#include <cstdint>
#include <cstring>

#include "kernels/check.h"
#include "kernels/quant/blocks.h"

namespace refute::cuda {
namespace {

using Bytes = std::uint8_t*;

constexpr std::size_t kLanes = 32;

template <typename Block>
Block load_block(const std::byte* from) {
  Block block;
  std::memcpy(&block, from, sizeof(Block));
  return block;
}

template <typename Block>
void store_block(const Block& block, std::byte* to) {
  std::memcpy(to, &block, sizeof(Block));
}

// The place of byte l in [0, 32) of a lane in an array [2][lane][16].
std::size_t nibble_at(std::size_t lane, std::size_t l) {
  return l / 16 * (16 * kLanes) + 16 * lane + l % 16;
}

// Every format: `to_tile` and `from_tile` move row r of a tile; block points at the row's
// super-block as stored.
struct FormatQ4K {
  using Block = BlockQ4K;
  static constexpr std::size_t kHeader = 1024;

  static void to_tile(const std::byte* from, std::size_t r, Bytes tile) {
    const auto block = load_block<Block>(from);
    std::memcpy(tile + kHeader + 16 * r, &block, 16);
    for (std::size_t p = 0; p < 4; ++p) {
      for (std::size_t l = 0; l < 32; ++l) {
        tile[nibble_at(4 * r + p, l)] = block.q[32 * p + l];
      }
    }
  }
  static void from_tile(const std::uint8_t* tile, std::size_t r, std::byte* to) {
    Block block;
    std::memcpy(&block, tile + kHeader + 16 * r, 16);
    for (std::size_t p = 0; p < 4; ++p) {
      for (std::size_t l = 0; l < 32; ++l) {
        block.q[32 * p + l] = tile[nibble_at(4 * r + p, l)];
      }
    }
    store_block(block, to);
  }
};

struct FormatQ5K {
  using Block = BlockQ5K;
  static constexpr std::size_t kHigh = 1024;
  static constexpr std::size_t kHeader = 1280;

  // The place and the shift of the two fifth bits of element l.
  static std::size_t high_at(std::size_t lane, std::size_t l) {
    return kHigh + 8 * lane + 4 * (l / 16) + l % 4;
  }
  static unsigned high_shift(std::size_t l) { return 2 * (l / 4 % 4); }

  static void to_tile(const std::byte* from, std::size_t r, Bytes tile) {
    const auto block = load_block<Block>(from);
    std::memcpy(tile + kHeader + 16 * r, &block, 16);
    for (std::size_t p = 0; p < 4; ++p) {
      const std::size_t lane = 4 * r + p;
      std::memset(tile + kHigh + 8 * lane, 0, 8);
      for (std::size_t l = 0; l < 32; ++l) {
        tile[nibble_at(lane, l)] = block.q[32 * p + l];
        const unsigned bits = (static_cast<unsigned>(block.q_high[l]) >> (2 * p)) & 3u;
        tile[high_at(lane, l)] |= static_cast<std::uint8_t>(bits << high_shift(l));
      }
    }
  }
  static void from_tile(const std::uint8_t* tile, std::size_t r, std::byte* to) {
    Block block;
    std::memcpy(&block, tile + kHeader + 16 * r, 16);
    std::memset(block.q_high, 0, sizeof(block.q_high));
    for (std::size_t p = 0; p < 4; ++p) {
      const std::size_t lane = 4 * r + p;
      for (std::size_t l = 0; l < 32; ++l) {
        block.q[32 * p + l] = tile[nibble_at(lane, l)];
        const unsigned bits = (static_cast<unsigned>(tile[high_at(lane, l)]) >> high_shift(l)) & 3u;
        block.q_high[l] |= static_cast<std::uint8_t>(bits << (2 * p));
      }
    }
    store_block(block, to);
  }
};

struct FormatQ6K {
  using Block = BlockQ6K;
  static constexpr std::size_t kHigh = 1024;
  static constexpr std::size_t kScales = 1536;
  static constexpr std::size_t kD = 1664;

  static std::size_t high_at(std::size_t lane, std::size_t l) {
    return kHigh + 16 * lane + 4 * (l / 8) + l % 4;
  }
  static unsigned high_shift(std::size_t l) { return 4 * (l / 4 % 2); }

  // Within its half of 128 elements, lane p even holds the quarters 0 and 1, odd 2 and 3: those
  // that share the low, or the high, nibbles of the same bytes.
  static void to_tile(const std::byte* from, std::size_t r, Bytes tile) {
    const auto block = load_block<Block>(from);
    for (std::size_t p = 0; p < 4; ++p) {
      const std::size_t lane = 4 * r + p;
      const std::size_t half = p / 2;
      const unsigned odd = p % 2;
      std::memset(tile + kHigh + 16 * lane, 0, 16);
      for (std::size_t l = 0; l < 32; ++l) {
        const unsigned first = block.q_low[64 * half + l] >> (4 * odd);
        const unsigned second = block.q_low[64 * half + 32 + l] >> (4 * odd);
        tile[nibble_at(lane, l)] = static_cast<std::uint8_t>((first & 15u) | ((second & 15u) << 4));
        const unsigned bits =
            (static_cast<unsigned>(block.q_high[32 * half + l]) >> (4 * odd)) & 15u;
        tile[high_at(lane, l)] |= static_cast<std::uint8_t>(bits << high_shift(l));
      }
      std::memcpy(tile + kScales + 4 * lane, block.scales + 4 * p, 4);
    }
    std::memcpy(tile + kD + 2 * r, &block.d, 2);
  }
  static void from_tile(const std::uint8_t* tile, std::size_t r, std::byte* to) {
    Block block;
    std::memset(&block, 0, sizeof(block));
    for (std::size_t p = 0; p < 4; ++p) {
      const std::size_t lane = 4 * r + p;
      const std::size_t half = p / 2;
      const unsigned odd = p % 2;
      for (std::size_t l = 0; l < 32; ++l) {
        const unsigned nibbles = tile[nibble_at(lane, l)];
        block.q_low[64 * half + l] |= static_cast<std::uint8_t>((nibbles & 15u) << (4 * odd));
        block.q_low[64 * half + 32 + l] |= static_cast<std::uint8_t>((nibbles >> 4) << (4 * odd));
        const unsigned bits =
            (static_cast<unsigned>(tile[high_at(lane, l)]) >> high_shift(l)) & 15u;
        block.q_high[32 * half + l] |= static_cast<std::uint8_t>(bits << (4 * odd));
      }
      std::memcpy(block.scales + 4 * p, tile + kScales + 4 * lane, 4);
    }
    std::memcpy(&block.d, tile + kD + 2 * r, 2);
    store_block(block, to);
  }
};

// A super-block is eight blocks.
struct FormatQ8_0 {
  struct Block {
    BlockQ8_0 blocks[8];
  };
  static constexpr std::size_t kD = 2048;

  static std::size_t q_at(std::size_t lane, std::size_t part) {
    return part * (16 * kLanes) + 16 * lane;
  }

  static void to_tile(const std::byte* from, std::size_t r, Bytes tile) {
    const auto block = load_block<Block>(from);
    for (std::size_t p = 0; p < 4; ++p) {
      const std::size_t lane = 4 * r + p;
      for (std::size_t b = 0; b < 2; ++b) {
        const BlockQ8_0& source = block.blocks[2 * p + b];
        std::memcpy(tile + q_at(lane, 2 * b), source.q, 16);
        std::memcpy(tile + q_at(lane, 2 * b + 1), source.q + 16, 16);
        std::memcpy(tile + kD + 4 * lane + 2 * b, &source.d, 2);
      }
    }
  }
  static void from_tile(const std::uint8_t* tile, std::size_t r, std::byte* to) {
    Block block;
    for (std::size_t p = 0; p < 4; ++p) {
      const std::size_t lane = 4 * r + p;
      for (std::size_t b = 0; b < 2; ++b) {
        BlockQ8_0& target = block.blocks[2 * p + b];
        std::memcpy(target.q, tile + q_at(lane, 2 * b), 16);
        std::memcpy(target.q + 16, tile + q_at(lane, 2 * b + 1), 16);
        std::memcpy(&target.d, tile + kD + 4 * lane + 2 * b, 2);
      }
    }
    store_block(block, to);
  }
};

// Calls body(stored super-block, row of the tile, tile) over all rows of all tiles.
template <typename Format, typename Row, typename Tile, typename Move>
void for_each_row(std::size_t groups, std::size_t super_blocks, Row* rows, Tile* tiles,
                  const Move& move) {
  constexpr std::size_t kBlockBytes = sizeof(typename Format::Block);
  for (std::size_t g = 0; g < groups; ++g) {
    for (std::size_t s = 0; s < super_blocks; ++s) {
      Tile* const tile = tiles + (g * super_blocks + s) * kTileRows * kBlockBytes;
      for (std::size_t r = 0; r < kTileRows; ++r) {
        move(rows + ((g * kTileRows + r) * super_blocks + s) * kBlockBytes, r, tile);
      }
    }
  }
}

// Calls visit.operator()<Format>() for a quantized type.
template <typename Visit>
void with_format(TensorType type, const Visit& visit) {
  switch (type) {
    case TensorType::kQ8_0:
      return visit.template operator()<FormatQ8_0>();
    case TensorType::kQ4_K:
      return visit.template operator()<FormatQ4K>();
    case TensorType::kQ5_K:
      return visit.template operator()<FormatQ5K>();
    case TensorType::kQ6_K:
      return visit.template operator()<FormatQ6K>();
    default:
      CHECK(false);
  }
}

// The rows that become tiles.
std::size_t tiled_rows(TensorType type, std::size_t num_rows, std::size_t columns) {
  return has_tiles(type, columns) ? num_rows / kTileRows * kTileRows : 0;
}

}  // namespace

bool has_tiles(TensorType type, std::size_t columns) {
  return tensor_type_info(type).is_quantized && columns > 0 && columns % kTileColumns == 0;
}

void repack_rows(TensorType type, std::size_t num_rows, std::size_t columns, const std::byte* rows,
                 std::byte* tiles) {
  const std::size_t tiled = tiled_rows(type, num_rows, columns);
  if (tiled > 0) {
    with_format(type, [&]<typename Format>() {
      for_each_row<Format>(tiled / kTileRows, columns / kTileColumns, rows, tiles,
                           [](const std::byte* from, std::size_t r, std::byte* tile) {
                             Format::to_tile(from, r, reinterpret_cast<std::uint8_t*>(tile));
                           });
    });
  }
  const std::size_t done = tiled * row_bytes(type, columns);
  std::memcpy(tiles + done, rows + done, (num_rows - tiled) * row_bytes(type, columns));
}

void unpack_rows(TensorType type, std::size_t num_rows, std::size_t columns, const std::byte* tiles,
                 std::byte* rows) {
  const std::size_t tiled = tiled_rows(type, num_rows, columns);
  if (tiled > 0) {
    with_format(type, [&]<typename Format>() {
      for_each_row<Format>(tiled / kTileRows, columns / kTileColumns, rows, tiles,
                           [](std::byte* to, std::size_t r, const std::byte* tile) {
                             Format::from_tile(reinterpret_cast<const std::uint8_t*>(tile), r, to);
                           });
    });
  }
  const std::size_t done = tiled * row_bytes(type, columns);
  std::memcpy(rows + done, tiles + done, (num_rows - tiled) * row_bytes(type, columns));
}

}  // namespace refute::cuda
