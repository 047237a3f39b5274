// The tile layout of quantized weights in GPU memory: tiles of 8 rows x 256 columns, each one
// contiguous, a structure of arrays that a warp reads with 16-byte loads. Byte-neutral: a tile is
// as long as the 8 x 256 elements it came from; and reversible. Host functions, in every build.
//
// Lane 4 * r + p of a warp (r in [0, 8), p in [0, 4)) owns columns 64 p .. 64 p + 63 of row r: the
// blocks of 32 named 2p and 2p + 1 in kernels/matmul.h. Tiles of a matrix stand in the order of
// row groups, then of super-blocks. Per tile, lanes ascending inside each array:
//
//   Q8_0  [4][lane][16] q: block 2p, then 2p + 1 | [lane][2] d, float16                  2176 bytes
//   Q4_K  [2][lane][16] nibbles: low of 2p, high of 2p + 1 | [r][16] d, dmin, scales     1152
//   Q5_K  [2][lane][16] nibbles | [lane][8] fifth bits | [r][16] d, dmin, scales          1408
//   Q6_K  [2][lane][16] nibbles | [lane][16] upper bits | [lane][4] scales | [r] d       1680
//
// Upper bits: byte i of a lane's 32-bit word m belongs to element 4k + i of both blocks, for k = 2m
// and 2m + 1 (Q6_K: two bits each, in the order (k even: 2p, 2p + 1), (k odd: 2p, 2p + 1)) or k =
// 4m .. 4m + 3 (Q5_K: one bit each, in the same order).
//
// Rows past the last multiple of 8 keep the file's layout, as do types and shapes that have no
// tiles.
#pragma once

#include <cstddef>

#include "kernels/quant/tensor_type.h"

namespace refute::cuda {

inline constexpr std::size_t kTileRows = 8;
inline constexpr std::size_t kTileColumns = 256;

// Whether full groups of 8 rows are stored as tiles: a quantized type and whole super-blocks.
bool has_tiles(TensorType type, std::size_t columns);

// rows: `num_rows` stored rows of `columns` elements each; tiles: as many bytes. Row groups are
// independent, so a matrix may be done in pieces of a multiple of 8 rows. Preconditions: a weight
// type, columns a multiple of its block size, no overlap.
void repack_rows(TensorType type, std::size_t num_rows, std::size_t columns, const std::byte* rows,
                 std::byte* tiles);
// The inverse.
void unpack_rows(TensorType type, std::size_t num_rows, std::size_t columns, const std::byte* tiles,
                 std::byte* rows);

}  // namespace refute::cuda
