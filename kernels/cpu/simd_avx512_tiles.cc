// Products of tiles (tiles.h) with AVX-512 VNNI, in the order of kernels/matmul.h. A register holds
// four columns of 16 rows; vpdpbusd adds their products with four activations, broadcast from
// memory, to one int32 lane a row. All that follows is vertical, so no lane meets another.
//
// Where the integers of kernels/matmul.h are scaled, a product of d and a scale or minimum has at
// most 11 + 6 significant bits: exact in float32. fma(d * scale, dot, ..) and (dmin * min) * sum
// therefore round the same numbers as fma(d, scale * dot, ..) and dmin * (min * sum).

#include <immintrin.h>

#include "kernels/cpu/simd.h"
#include "kernels/cpu/tiles.h"
#include "kernels/cpu/vector_avx512.h"

namespace refute::cpu {
namespace {

// How many bytes ahead a pass of few tokens asks for lines: far enough for memory into the
// second-level cache, then from there into the first. Loads that miss the first level share its few
// fill buffers with the far requests, which hold them for as long as memory takes; so no load
// should miss.
constexpr std::ptrdiff_t kFar = 24576;
constexpr std::ptrdiff_t kNear = 3072;

[[gnu::always_inline]] inline __m512i dword(const std::byte* from, std::size_t index) {
  return load_512(from + 64 * index);
}
// Where the lines lie that are asked for when a line at some address is used.
struct Ahead {
  // near, far: from that address; past `end` come the lines from `then` on.
  [[gnu::always_inline]] inline Ahead(const std::byte* at, const std::byte* end,
                                      const std::byte* then)
      : near(at + kNear < end ? kNear : kNear + (then - end)),
        far(at + kFar < end ? kFar : kFar + (then - end)) {}
  [[gnu::always_inline]] inline void operator()(const std::byte* line) const {
    _mm_prefetch(reinterpret_cast<const char*>(line) + far, _MM_HINT_T1);
    _mm_prefetch(reinterpret_cast<const char*>(line) + near, _MM_HINT_T0);
  }
  std::ptrdiff_t near, far;
};
[[gnu::always_inline]] inline __m512 halves(const std::byte* from) {
  return _mm512_cvtph_ps(load_256(from));
}
[[gnu::always_inline]] inline __m512 unsigned_bytes(const std::uint8_t* from) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(load_128(from)));
}
[[gnu::always_inline]] inline __m512 signed_bytes(const std::byte* from) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load_128(from)));
}
// dot plus the products of four weights a lane with four activations. Where one token is all there
// is, the broadcast is part of the instruction, which GCC 12 does not do by itself: fewer
// instructions let the processor look further ahead in memory.
template <int kTokens>
[[gnu::always_inline]] inline __m512i add_products(__m512i dot, __m512i weights,
                                                   const std::int8_t* q) {
  if constexpr (kTokens == 1) {
    using Four = std::int8_t[4];
    asm("vpdpbusd %2%{1to16%}, %1, %0"
        : "+v"(dot)
        : "v"(weights), "m"(*reinterpret_cast<const Four*>(q)));
    return dot;
  }
  std::int32_t four;
  __builtin_memcpy(&four, q, sizeof(four));
  return _mm512_dpbusd_epi32(dot, weights, _mm512_set1_epi32(four));
}
// (a & mask) | b
[[gnu::always_inline]] inline __m512i masked_or(__m512i a, __m512i mask, __m512i b) {
  return _mm512_ternarylogic_epi32(a, mask, b, 0xea);
}

// The blocks 2p and 2p + 1 of a super-block are "even" and "odd"; piece j of 8 holds columns 4j to
// 4j + 3 of both.
struct Pair {
  __m512i even, odd;
};

// Each format has: kBytes of a tile; kParts, the runs of columns of a block that are scaled apart;
// start(group, s, super_blocks); pieces(p, j) = unsigned weights; initial(x, b, part) = the dot
// product's start, which takes an offset of the weights back; scaled(dot, b, part, sum) = the sum
// with one part more; v(sum, x, b) = v of kernels/matmul.h.

// What formats share whose blocks have one part: the dot product is the sum.
struct OnePart {
  static constexpr int kParts = 1;
  [[gnu::always_inline]] static inline __m512 scaled(__m512i dot, int, int, __m512) {
    return _mm512_cvtepi32_ps(dot);
  }
};

// What Q4_K and Q5_K share. kOddFactor: the odd blocks' integers are that many times too large.
template <int kOddFactor>
struct ScaleMin : OnePart {
  [[gnu::always_inline]] inline void start_scales(const std::byte* tile) {
    d = halves(tile);
    dmin = halves(tile + 32);
    const __m512i low = load_512(tile + 64);      // Bytes 0 to 3 of the 12: four scales.
    const __m512i middle = load_512(tile + 128);  // 4 to 7: four minimums.
    const __m512i high = load_512(tile + 192);    // 8 to 11: the low bits of the other ones.
    const __m512i six = _mm512_set1_epi8(63);
    const __m512i four_bits = _mm512_set1_epi8(15);
    const __m512i two = _mm512_set1_epi8(48);
    _mm512_store_si512(scales, _mm512_and_si512(low, six));
    _mm512_store_si512(mins, _mm512_and_si512(middle, six));
    _mm512_store_si512(
        scales + 64, masked_or(_mm512_srli_epi16(low, 2), two, _mm512_and_si512(high, four_bits)));
    _mm512_store_si512(mins + 64,
                       masked_or(_mm512_srli_epi16(middle, 2), two,
                                 _mm512_and_si512(_mm512_srli_epi16(high, 4), four_bits)));
    odd_d = kOddFactor == 1 ? d : _mm512_mul_ps(d, _mm512_set1_ps(1.0f / kOddFactor));
  }
  [[gnu::always_inline]] inline void start_pair(int p) {
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      scale[i] = _mm512_mul_ps(i == 0 ? d : odd_d, unsigned_bytes(scales + 16 * (2 * p + i)));
      min[i] = _mm512_mul_ps(dmin, unsigned_bytes(mins + 16 * (2 * p + i)));
    }
  }
  [[gnu::always_inline]] static inline __m512i initial(const TileActivations&, int, int) {
    return _mm512_setzero_si512();
  }
  [[gnu::always_inline]] inline __m512 v(__m512 dot, const TileActivations& x, int b) const {
    return _mm512_fmsub_ps(scale[b % 2], dot, _mm512_mul_ps(min[b % 2], _mm512_set1_ps(x.sums[b])));
  }

  __m512 d, dmin, odd_d;
  __m512 scale[2], min[2];
  alignas(64) std::uint8_t scales[128];
  alignas(64) std::uint8_t mins[128];
};

// High nibbles stay where they are, 16 times too large.
struct TileQ4K : ScaleMin<16> {
  static constexpr std::size_t kBytes = 2304;
  [[gnu::always_inline]] inline void start(const std::byte* group, std::size_t s, std::size_t) {
    start_scales(group + s * kBytes);
    q = group + s * kBytes + 256;
  }
  [[gnu::always_inline]] inline void ask_for_pieces(const Ahead& ask_for, int p, int j) const {
    ask_for(q + 64 * (8 * p + j));
    if (p == 3 && j < 4) ask_for(q + 2048 + 64 * j);  // What the next tile starts with.
  }
  [[gnu::always_inline]] inline Pair pieces(int p, int j) const {
    const __m512i both = dword(q, static_cast<std::size_t>(8 * p + j));
    return {_mm512_and_si512(both, _mm512_set1_epi8(15)),
            _mm512_and_si512(both, _mm512_set1_epi8(-16))};
  }
  const std::byte* q;
};

struct TileQ5K : ScaleMin<1> {
  static constexpr std::size_t kBytes = 2816;
  [[gnu::always_inline]] inline void start(const std::byte* group, std::size_t s, std::size_t) {
    start_scales(group + s * kBytes);
    high = group + s * kBytes + 256;
    q = group + s * kBytes + 768;
  }
  [[gnu::always_inline]] inline void ask_for_pieces(const Ahead& ask_for, int p, int j) const {
    ask_for(q + 64 * (8 * p + j));
    if (p == 2 && j < 4) ask_for(q + 2048 + 64 * j);  // What the next tile starts with.
    if (p == 3) ask_for(q + 2304 + 64 * j);
  }
  [[gnu::always_inline]] inline Pair pieces(int p, int j) const {
    const __m512i both = dword(q, static_cast<std::size_t>(8 * p + j));
    // Bits 2p and 2p + 1 move to bit 4; what crosses bytes is masked away.
    const __m512i fifths =
        _mm512_srl_epi16(dword(high, static_cast<std::size_t>(j)), _mm_cvtsi32_si128(2 * p));
    const __m512i low = _mm512_set1_epi8(15);
    const __m512i bit = _mm512_set1_epi8(16);
    return {masked_or(_mm512_slli_epi16(fifths, 4), bit, _mm512_and_si512(both, low)),
            masked_or(_mm512_slli_epi16(fifths, 3), bit,
                      _mm512_and_si512(_mm512_srli_epi16(both, 4), low))};
  }
  const std::byte* high;
  const std::byte* q;
};

// Weights count 32 more than they are, which offset_sums takes back.
struct TileQ6K {
  static constexpr std::size_t kBytes = 3360;
  static constexpr int kParts = 2;
  [[gnu::always_inline]] inline void start(const std::byte* group, std::size_t s,
                                           std::size_t super_blocks) {
    scales = group + 256 * s;
    d = halves(group + 256 * super_blocks + 32 * s);
    q = group + (288 * super_blocks + 63) / 64 * 64 + 3072 * s;
  }
  [[gnu::always_inline]] inline void ask_for_pieces(const Ahead& ask_for, int p, int j) const {
    // A line and a half each.
    ask_for(q + 64 * (12 * p + j));
    if (j < 4) ask_for(q + 64 * (12 * p + 8 + j));
    if (p == 3 && j >= 4) ask_for(scales + 64 * (j - 4));
  }
  [[gnu::always_inline]] inline void start_pair(int p) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      scale[i] = signed_bytes(scales + 16 * (4 * p + i));
    }
  }
  [[gnu::always_inline]] inline Pair pieces(int p, int j) const {
    const int half = p / 2;
    const __m512i four_bits = _mm512_set1_epi8(15);
    const __m512i two = _mm512_set1_epi8(48);
    __m512i even = dword(q, static_cast<std::size_t>(24 * half + 3 * j));
    __m512i odd = dword(q, static_cast<std::size_t>(24 * half + 3 * j + 1));
    const __m512i high = dword(q, static_cast<std::size_t>(24 * half + 3 * j + 2));
    if (p % 2 == 0) {
      return {masked_or(_mm512_slli_epi16(high, 4), two, _mm512_and_si512(even, four_bits)),
              masked_or(_mm512_slli_epi16(high, 2), two, _mm512_and_si512(odd, four_bits))};
    }
    even = _mm512_and_si512(_mm512_srli_epi16(even, 4), four_bits);
    odd = _mm512_and_si512(_mm512_srli_epi16(odd, 4), four_bits);
    return {masked_or(high, two, even), masked_or(_mm512_srli_epi16(high, 2), two, odd)};
  }
  [[gnu::always_inline]] static inline __m512i initial(const TileActivations& x, int b, int part) {
    return _mm512_set1_epi32(x.offset_sums[2 * b + part]);
  }
  // Integers below 2^24 throughout: exact.
  [[gnu::always_inline]] inline __m512 scaled(__m512i dot, int b, int part, __m512 sum) const {
    const __m512 value = _mm512_cvtepi32_ps(dot);
    const __m512 by = scale[2 * (b % 2) + part];
    return part == 0 ? _mm512_mul_ps(by, value) : _mm512_fmadd_ps(by, value, sum);
  }
  [[gnu::always_inline]] inline __m512 v(__m512 sum, const TileActivations&, int) const {
    return _mm512_mul_ps(d, sum);
  }
  const std::byte* scales;
  const std::byte* q;
  __m512 d;
  __m512 scale[4];
};

// Weights count 128 more than they are.
struct TileQ8_0 : OnePart {
  static constexpr std::size_t kBytes = 4352;
  [[gnu::always_inline]] inline void start(const std::byte* group, std::size_t s, std::size_t) {
    tile = group + s * kBytes;
    q = tile + 256;
  }
  [[gnu::always_inline]] inline void ask_for_pieces(const Ahead& ask_for, int p, int j) const {
    ask_for(q + 64 * (16 * p + j));
    ask_for(q + 64 * (16 * p + j + 8));
    if (p == 3 && j < 4) ask_for(q + 4096 + 64 * j);  // What the next tile starts with.
  }
  [[gnu::always_inline]] inline void start_pair(int p) {
    d[0] = halves(tile + 64 * p);
    d[1] = halves(tile + 64 * p + 32);
  }
  [[gnu::always_inline]] inline Pair pieces(int p, int j) const {
    const __m512i offset = _mm512_set1_epi8(-128);
    const auto at = static_cast<std::size_t>(16 * p + j);
    return {_mm512_xor_si512(dword(q, at), offset), _mm512_xor_si512(dword(q, at + 8), offset)};
  }
  [[gnu::always_inline]] static inline __m512i initial(const TileActivations& x, int b, int) {
    return _mm512_set1_epi32(4 * (x.offset_sums[2 * b] + x.offset_sums[2 * b + 1]));
  }
  [[gnu::always_inline]] inline __m512 v(__m512 sum, const TileActivations&, int b) const {
    return _mm512_mul_ps(d[b % 2], sum);
  }
  const std::byte* tile;
  const std::byte* q;
  __m512 d[2];
};

// u[s, p] of kernels/matmul.h for kTokens tokens.
template <typename Tile, int kTokens>
[[gnu::always_inline]] inline void multiply_pair(Tile& tile, int p, const TileActivations* x,
                                                 const Ahead& ahead, __m512* u) {
  tile.start_pair(p);
  __m512 even_sum[kTokens];
  __m512 odd_sum[kTokens];
#pragma GCC unroll 2
  for (int part = 0; part < Tile::kParts; ++part) {
    __m512i even[kTokens];
    __m512i odd[kTokens];
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
      even[t] = Tile::initial(x[t], 2 * p, part);
      odd[t] = Tile::initial(x[t], 2 * p + 1, part);
    }
    constexpr int kPieces = 8 / Tile::kParts;
#pragma GCC unroll 8
    for (int i = 0; i < kPieces; ++i) {
      const int j = part * kPieces + i;
      if constexpr (kTokens <= 2) tile.ask_for_pieces(ahead, p, j);
      const Pair weights = tile.pieces(p, j);
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t) {
        even[t] = add_products<kTokens>(even[t], weights.even, x[t].q + 64 * p + 4 * j);
        odd[t] = add_products<kTokens>(odd[t], weights.odd, x[t].q + 64 * p + 32 + 4 * j);
      }
    }
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
      even_sum[t] = tile.scaled(even[t], 2 * p, part, even_sum[t]);
      odd_sum[t] = tile.scaled(odd[t], 2 * p + 1, part, odd_sum[t]);
    }
  }
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; ++t) {
    const __m512 even =
        _mm512_mul_ps(_mm512_set1_ps(x[t].d[2 * p]), tile.v(even_sum[t], x[t], 2 * p));
    u[t] = _mm512_fmadd_ps(_mm512_set1_ps(x[t].d[2 * p + 1]), tile.v(odd_sum[t], x[t], 2 * p + 1),
                           even);
  }
}

template <typename Tile, int kTokens>
void multiply_tokens(const std::byte* tiles, std::size_t groups, std::size_t super_blocks,
                     const TileActivations* x, const std::byte* then, float* y,
                     std::size_t y_stride) {
  const std::size_t bytes = (super_blocks * Tile::kBytes + 63) / 64 * 64;
  const std::byte* const end = tiles + groups * bytes;
  if (then == nullptr) then = end;
  for (std::size_t g = 0; g < groups; ++g) {
    __m512 sum[kTokens];
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) sum[t] = _mm512_setzero_ps();
    for (std::size_t s = 0; s < super_blocks; ++s) {
      Tile tile;
      tile.start(tiles, s, super_blocks);
      const Ahead ahead(tile.q, end, then);
      const TileActivations* const now = x + s * kTokens;
      __m512 u[4][kTokens];
#pragma GCC unroll 4
      for (int p = 0; p < 4; ++p) multiply_pair<Tile, kTokens>(tile, p, now, ahead, u[p]);
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t) {
        sum[t] = _mm512_add_ps(sum[t], _mm512_add_ps(_mm512_add_ps(u[0][t], u[1][t]),
                                                     _mm512_add_ps(u[2][t], u[3][t])));
      }
    }
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
      _mm512_storeu_ps(y + static_cast<std::size_t>(t) * y_stride + kTileRows * g, sum[t]);
    }
    tiles += bytes;
  }
}

template <typename Tile>
void multiply(const std::byte* tiles, std::size_t groups, std::size_t super_blocks,
              const TileActivations* x, std::size_t num_tokens, const std::byte* then, float* y,
              std::size_t y_stride) {
  switch (num_tokens) {
    case 1:
      return multiply_tokens<Tile, 1>(tiles, groups, super_blocks, x, then, y, y_stride);
    case 2:
      return multiply_tokens<Tile, 2>(tiles, groups, super_blocks, x, then, y, y_stride);
    case 3:
      return multiply_tokens<Tile, 3>(tiles, groups, super_blocks, x, then, y, y_stride);
    case 4:
      return multiply_tokens<Tile, 4>(tiles, groups, super_blocks, x, then, y, y_stride);
    case 5:
      return multiply_tokens<Tile, 5>(tiles, groups, super_blocks, x, then, y, y_stride);
    case 6:
      return multiply_tokens<Tile, 6>(tiles, groups, super_blocks, x, then, y, y_stride);
    case 7:
      return multiply_tokens<Tile, 7>(tiles, groups, super_blocks, x, then, y, y_stride);
    case 8:
      return multiply_tokens<Tile, 8>(tiles, groups, super_blocks, x, then, y, y_stride);
    default:
      return;
  }
}

// Sums over 16 columns: a transposing sum of four registers of four lanes each.
[[gnu::always_inline]] inline __m512i sums_of_16(const std::int8_t* q) {
  const __m512i ones = _mm512_set1_epi8(1);
  const __m512i zero = _mm512_setzero_si512();
  const __m512i a = _mm512_dpbusd_epi32(zero, ones, load_512(q));
  const __m512i b = _mm512_dpbusd_epi32(zero, ones, load_512(q + 64));
  const __m512i c = _mm512_dpbusd_epi32(zero, ones, load_512(q + 128));
  const __m512i d = _mm512_dpbusd_epi32(zero, ones, load_512(q + 192));
  const __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
  const __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
  const __m512i sums =
      _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
  // Lane 4 i + k is sum i of register k.
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_permutexvar_epi32(order, sums);
}

void arrange(const std::int8_t* q, const float* d, const std::int32_t* sums,
             std::size_t super_blocks, TileActivations* to, std::size_t stride) {
  for (std::size_t s = 0; s < super_blocks; ++s, q += 256, d += 8, sums += 8, to += stride) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) _mm512_store_si512(to->q + 64 * i, load_512(q + 64 * i));
    _mm256_store_ps(to->d, _mm256_loadu_ps(d));
    _mm256_store_ps(to->sums, _mm256_cvtepi32_ps(load_256(sums)));
    _mm512_store_si512(to->offset_sums, _mm512_sub_epi32(_mm512_setzero_si512(),
                                                         _mm512_slli_epi32(sums_of_16(q), 5)));
  }
}

}  // namespace

constinit const TileKernels kAvx512TileKernels = {
    .arrange = arrange,
    .q8_0 = multiply<TileQ8_0>,
    .q4_k = multiply<TileQ4K>,
    .q5_k = multiply<TileQ5K>,
    .q6_k = multiply<TileQ6K>,
};

}  // namespace refute::cpu
