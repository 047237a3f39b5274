// Quantized weights regrouped for vertical arithmetic: 16 rows side by side, so that one vector
// register holds the same columns of 16 rows and one lane sums one row.
//
// A row group is 16 rows of a matrix. Byte for byte it holds what the file holds for them, in
// another order: for every 256 columns in turn a tile, whose parts stand as below. "[n][16]": for
// every n the values of the 16 rows.
//
//   Q4_K  2304 B  d, dmin [1][16] float16; scales [12][16] bytes; q [32][16] dwords
//   Q5_K  2816 B  d, dmin [1][16] float16; scales [12][16] bytes; q_high [8][16] dwords;
//                 q [32][16] dwords
//   Q8_0  4352 B  d [8][16] float16; q [64][16] dwords
//   Q6_K  3360 B  scales [16][16] bytes; d [1][16] float16; q [2][8][3][16] dwords: of each half
//                 and each 4 l the two dwords of q_low and the one of q_high
//
// A tile of Q6_K is no multiple of a cache line, and loads across lines cost half the speed. There
// the group holds first the scales of all tiles, then their d, then, from the next multiple of 64
// bytes on, their q: 32 bytes more for a group with an odd number of tiles, the only ones added.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/context.h"
#include "kernels/quant/dequantize.h"

namespace refute::cpu {

inline constexpr std::size_t kTileRows = 16;
inline constexpr std::size_t kTileColumns = 256;
// Tokens that one pass over a tile serves at most.
inline constexpr std::size_t kTileTokens = 8;

// Whether a row group of such a matrix can be tiles.
bool has_tiles(TensorType type, std::size_t columns);
// Whether the products of `context` use tiles; the other instruction sets read rows as stored.
bool uses_tiles(const Context& context);

// Bytes of a row group.
std::size_t group_bytes(TensorType type, std::size_t columns);

// Writes the tiles of `groups` row groups. Precondition: has_tiles; `rows` as stored.
void pack_tiles(TensorType type, std::size_t groups, std::size_t columns, const std::byte* rows,
                std::byte* tiles);

// 256 quantized activations of one token, arranged for tiles.
struct alignas(64) TileActivations {
  std::int8_t q[256];            // In order of columns.
  float d[8];                    // A block of 32 columns each.
  float sums[8];                 // Of q over 32 columns.
  std::int32_t offset_sums[16];  // -32 x the sums over 16 columns, for Q6_K.
};
static_assert(sizeof(TileActivations) == 384);

// The functions of one instruction set; see simd.h for what its source file may define.
struct TileKernels {
  // Arranges a row of columns % 256 == 0 activations (kernels/quant/activations.h); its blocks go
  // to to[0], to[stride], ...
  void (*arrange)(const std::int8_t* q, const float* d, const std::int32_t* sums,
                  std::size_t super_blocks, TileActivations* to, std::size_t stride);

  // y[t * y_stride + r] for the rows r of `groups` row groups and tokens t < num_tokens, 1 to
  // kTileTokens of them. x: super-blocks of all tokens in turn, [super_blocks][num_tokens]. then:
  // the tiles that the caller reads next, which the processor is told of before they are needed; or
  // null.
  using Multiply = void (*)(const std::byte* tiles, std::size_t groups, std::size_t super_blocks,
                            const TileActivations* x, std::size_t num_tokens, const std::byte* then,
                            float* y, std::size_t y_stride);
  Multiply q8_0, q4_k, q5_k, q6_k;
};

}  // namespace refute::cpu
