// What one thread holds of a quantized matrix, and its share of a dot product. In a full warp,
// thread 4 * r + p works on row r of 8 and, of each super-block s, on the blocks 2p and 2p + 1 of
// 32 columns (tiles.h), so that u[s, p] of kernels/matmul.h is its own:
//
//   Fragment<kType> f;  f.load(tile, lane);         from a tile, or f.load_stored(block, p)
//   Unpacked<kType> w(f, p);                        once for all tokens
//   super_block_sum(w.dot(x))                       S[s], in all four threads of the row
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "kernels/cuda/numerics.cuh"
#include "kernels/cuda/ops.h"

namespace refute::cuda {
namespace {

// Weights are read once: past the first-level cache.
__device__ inline uint4 load_stream(const std::uint8_t* from) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(from));
  return v;
}
__device__ inline uint2 load_stream2(const std::uint8_t* from) {
  uint2 v;
  asm volatile("ld.global.nc.L1::no_allocate.v2.u32 {%0, %1}, [%2];"
               : "=r"(v.x), "=r"(v.y)
               : "l"(from));
  return v;
}
__device__ inline unsigned load_stream1(const std::uint8_t* from) {
  unsigned v;
  asm volatile("ld.global.nc.L1::no_allocate.u32 %0, [%1];" : "=r"(v) : "l"(from));
  return v;
}

// How a fragment reads a tile: from device memory, or from a copy in shared memory.
struct FromDevice {
  __device__ static uint4 load16(const std::uint8_t* from) { return load_stream(from); }
  __device__ static uint2 load8(const std::uint8_t* from) { return load_stream2(from); }
  __device__ static unsigned load4(const std::uint8_t* from) { return load_stream1(from); }
};
struct FromShared {
  __device__ static uint4 load16(const std::uint8_t* from) {
    return *reinterpret_cast<const uint4*>(from);
  }
  __device__ static uint2 load8(const std::uint8_t* from) {
    return *reinterpret_cast<const uint2*>(from);
  }
  __device__ static unsigned load4(const std::uint8_t* from) {
    return *reinterpret_cast<const unsigned*>(from);
  }
};

// A 32-bit word of a stored row, which is only 2-byte aligned.
__device__ inline unsigned load_word(const std::uint8_t* from) {
  const auto* halves = reinterpret_cast<const std::uint16_t*>(from);
  return static_cast<unsigned>(halves[0]) | (static_cast<unsigned>(halves[1]) << 16);
}
__device__ inline std::uint16_t load_half(const std::uint8_t* from) {
  return *reinterpret_cast<const std::uint16_t*>(from);
}

// 64 activations of one token: those that this thread's weights meet.
struct ActivationLane {
  int q[16];
  float d[2];
  int sums[2];  // Of each block: over its first 16 in the lower half, its second in the upper one.

  __device__ int first_sum(int b) const { return static_cast<std::int16_t>(sums[b] & 0xffff); }
  __device__ int second_sum(int b) const { return sums[b] >> 16; }
  __device__ int sum(int b) const { return __dp2a_lo(sums[b], 0x0101, 0); }

  // q_row, meta_row: of the token, in global or shared memory.
  __device__ void load(const std::int8_t* q_row, const ActivationMeta* meta_row, int s, int p) {
    const auto* from = reinterpret_cast<const int4*>(q_row + 256 * s + 64 * p);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int4 v = from[i];
      q[4 * i] = v.x;
      q[4 * i + 1] = v.y;
      q[4 * i + 2] = v.z;
      q[4 * i + 3] = v.w;
    }
    load_scales(meta_row, s, p);
  }
  // d and sums alone.
  __device__ void load_scales(const ActivationMeta* meta_row, int s, int p) {
    const int4 meta = *reinterpret_cast<const int4*>(meta_row + 8 * s + 2 * p);
    d[0] = __int_as_float(meta.x);
    d[1] = __int_as_float(meta.z);
    sums[0] = meta.y;
    sums[1] = meta.w;
  }
};

// fma(dx1, v1, dx0 * v0)
__device__ inline float pair_sum(const ActivationLane& x, float v0, float v1) {
  return __fmaf_rn(x.d[1], v1, __fmul_rn(x.d[0], v0));
}

// (u0 + u1) + (u2 + u3) over the four threads of a row.
__device__ inline float super_block_sum(float u) {
  u = __fadd_rn(u, __shfl_xor_sync(kAllLanes, u, 1));
  return __fadd_rn(u, __shfl_xor_sync(kAllLanes, u, 2));
}

// Exact integer dot products of 4 words each with 16 activations from word `first` on.
__device__ inline int dot_16(const int* w, const ActivationLane& x, int first) {
  int sum = 0;
#pragma unroll
  for (int k = 0; k < 4; ++k) sum = __dp4a(w[k], x.q[first + k], sum);
  return sum;
}

// The same with weights that are unsigned bytes.
__device__ inline int unsigned_dot_16(const int* w, const ActivationLane& x, int first) {
  int sum = 0;
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    asm("dp4a.u32.s32 %0, %1, %2, %0;" : "+r"(sum) : "r"(w[k]), "r"(x.q[first + k]));
  }
  return sum;
}

// Q4_K and Q5_K: 8-word halves with scales and minimums.
struct UnpackedWithMin {
  int q[16];  // Words of block 2p, then of 2p + 1.
  int scale[2];
  int min[2];
  float d;
  float dmin;

  // header: d, dmin and the 12 bytes of scales, as in the file.
  __device__ void unpack_header(uint4 header, int p) {
    UnpackedWithMin unused;
    unpack_headers(header, header, p, *this, unused);
  }
  // Of two rows at once, in the lower and the upper halves of words.
  __device__ static void unpack_headers(uint4 first, uint4 second, int p, UnpackedWithMin& w,
                                        UnpackedWithMin& other) {
    const unsigned halves = (p & 1) == 0 ? 0x5410u : 0x7632u;
    const unsigned a = __byte_perm(first.y, second.y, halves);
    const unsigned b = __byte_perm(first.z, second.z, halves);
    const unsigned c = __byte_perm(first.w, second.w, halves);
    const unsigned scales = p < 2 ? a & 0x3f3f3f3fu : (c & 0x0f0f0f0fu) | ((a >> 2) & 0x30303030u);
    const unsigned mins =
        p < 2 ? b & 0x3f3f3f3fu : ((c >> 4) & 0x0f0f0f0fu) | ((b >> 2) & 0x30303030u);
    w.take_header(first.x, scales, mins);
    other.take_header(second.x, scales >> 16, mins >> 16);
  }
  // d and dmin, and two bytes each.
  __device__ void take_header(unsigned halves, unsigned scales, unsigned mins) {
    const __half2 ds = *reinterpret_cast<const __half2*>(&halves);
    d = __low2float(ds);
    dmin = __high2float(ds);
    scale[0] = static_cast<int>(scales & 0xffu);
    scale[1] = static_cast<int>((scales >> 8) & 0xffu);
    min[0] = static_cast<int>(mins & 0xffu);
    min[1] = static_cast<int>((mins >> 8) & 0xffu);
  }
  __device__ float block(const ActivationLane& x, int b) const {
    return scaled(x, b, dot_16(q + 8 * b, x, 8 * b) + dot_16(q + 8 * b + 4, x, 8 * b + 4));
  }
  // v of block 2p + b, from its dot product.
  __device__ float scaled(const ActivationLane& x, int b, int dot) const {
    const float minimum = __int2float_rn(min[b] * x.sum(b));
    return __fmaf_rn(d, __int2float_rn(scale[b] * dot), -__fmul_rn(dmin, minimum));
  }
  __device__ float dot(const ActivationLane& x) const {
    return pair_sum(x, block(x, 0), block(x, 1));
  }
  // Element l of block 2p + b, rounded once (quant/dequantize.h).
  __device__ float element(int b, int l) const {
    return value_of(b, (q[8 * b + l / 4] >> (8 * (l % 4))) & 0xff);
  }
  __device__ float value_of(int b, int value) const {
    const float scaled = __fmul_rn(__fmul_rn(d, __int2float_rn(scale[b])), __int2float_rn(value));
    return __fsub_rn(scaled, __fmul_rn(dmin, __int2float_rn(min[b])));
  }
};

template <TensorType kType>
struct Fragment;
template <TensorType kType>
struct Unpacked;

// Block 2p's elements are the low nibbles of these 8 words, block 2p + 1's the high ones.
__device__ inline unsigned word_of(const uint4* q, int k) {
  const uint4 v = q[k / 4];
  return k % 4 == 0 ? v.x : k % 4 == 1 ? v.y : k % 4 == 2 ? v.z : v.w;
}

template <>
struct Fragment<TensorType::kQ4_K> {
  static constexpr int kBlockBytes = 144;
  uint4 q[2];
  uint4 header;

  template <typename From = FromDevice>
  __device__ void load(const std::uint8_t* tile, int lane) {
    q[0] = From::load16(tile + 16 * lane);
    q[1] = From::load16(tile + 512 + 16 * lane);
    header = From::load16(tile + 1024 + 16 * (lane / 4));
  }
  __device__ void load_stored(const std::uint8_t* block, int p, int /*num_blocks*/) {
    header = {load_word(block), load_word(block + 4), load_word(block + 8), load_word(block + 12)};
    const std::uint8_t* from = block + 16 + 32 * p;
    q[0] = {load_word(from), load_word(from + 4), load_word(from + 8), load_word(from + 12)};
    q[1] = {load_word(from + 16), load_word(from + 20), load_word(from + 24), load_word(from + 28)};
  }
};
// The words of block 2p + 1 are 16 times too large, which costs one shift of the sum in place of
// one a word.
template <>
struct Unpacked<TensorType::kQ4_K> : UnpackedWithMin {
  __device__ Unpacked(const Fragment<TensorType::kQ4_K>& f, int p) {
    unpack_header(f.header, p);
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      const unsigned word = word_of(f.q, k);
      q[k] = static_cast<int>(word & 0x0f0f0f0fu);
      q[8 + k] = static_cast<int>(word & 0xf0f0f0f0u);
    }
  }
  __device__ float dot(const ActivationLane& x) const {
    const int second = unsigned_dot_16(q + 8, x, 8) + unsigned_dot_16(q + 12, x, 12);
    return pair_sum(x, block(x, 0), scaled(x, 1, second >> 4));
  }
  __device__ float element(int b, int l) const {
    const int value = (q[8 * b + l / 4] >> (8 * (l % 4) + 4 * b)) & 0xf;
    return value_of(b, value);
  }
};

template <>
struct Fragment<TensorType::kQ5_K> {
  static constexpr int kBlockBytes = 176;
  uint4 q[2];
  uint4 header;
  uint2 high;

  template <typename From = FromDevice>
  __device__ void load(const std::uint8_t* tile, int lane) {
    q[0] = From::load16(tile + 16 * lane);
    q[1] = From::load16(tile + 512 + 16 * lane);
    high = From::load8(tile + 1024 + 8 * lane);
    header = From::load16(tile + 1280 + 16 * (lane / 4));
  }
  __device__ void load_stored(const std::uint8_t* block, int p, int /*num_blocks*/) {
    header = {load_word(block), load_word(block + 4), load_word(block + 8), load_word(block + 12)};
    const std::uint8_t* from = block + 48 + 32 * p;
    q[0] = {load_word(from), load_word(from + 4), load_word(from + 8), load_word(from + 12)};
    q[1] = {load_word(from + 16), load_word(from + 20), load_word(from + 24), load_word(from + 28)};
    unsigned bits[2] = {0, 0};
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      const unsigned word = load_word(block + 16 + 4 * k);
      bits[k / 4] |= ((word >> (2 * p)) & 0x03030303u) << (2 * (k % 4));
    }
    high = {bits[0], bits[1]};
  }
};
template <>
struct Unpacked<TensorType::kQ5_K> : UnpackedWithMin {
  __device__ Unpacked(const Fragment<TensorType::kQ5_K>& f, int p) {
    unpack_header(f.header, p);
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      const unsigned word = word_of(f.q, k);
      const unsigned bits = (k < 4 ? f.high.x : f.high.y) >> (2 * (k % 4));
      q[k] = static_cast<int>((word & 0x0f0f0f0fu) | ((bits & 0x01010101u) << 4));
      q[8 + k] = static_cast<int>(((word >> 4) & 0x0f0f0f0fu) | ((bits & 0x02020202u) << 3));
    }
  }
};

template <>
struct Fragment<TensorType::kQ6_K> {
  static constexpr int kBlockBytes = 210;
  uint4 q[2];
  uint4 high;
  unsigned scales;
  std::uint16_t d;

  template <typename From = FromDevice>
  __device__ void load(const std::uint8_t* tile, int lane) {
    q[0] = From::load16(tile + 16 * lane);
    q[1] = From::load16(tile + 512 + 16 * lane);
    high = From::load16(tile + 1024 + 16 * lane);
    scales = From::load4(tile + 1536 + 4 * lane);
    d = load_half(tile + 1664 + 2 * (lane / 4));
  }
  __device__ void load_stored(const std::uint8_t* block, int p, int /*num_blocks*/) {
    const int shift = 4 * (p % 2);
    const std::uint8_t* low = block + 64 * (p / 2);
    const std::uint8_t* upper = block + 128 + 32 * (p / 2);
    unsigned words[8];
    unsigned bits[4];
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      const unsigned first = (load_word(low + 4 * k) >> shift) & 0x0f0f0f0fu;
      const unsigned second = (load_word(low + 32 + 4 * k) >> shift) & 0x0f0f0f0fu;
      words[k] = first | (second << 4);
    }
#pragma unroll
    for (int m = 0; m < 4; ++m) {
      const unsigned even = (load_word(upper + 8 * m) >> shift) & 0x0f0f0f0fu;
      const unsigned odd = (load_word(upper + 8 * m + 4) >> shift) & 0x0f0f0f0fu;
      bits[m] = even | (odd << 4);
    }
    q[0] = {words[0], words[1], words[2], words[3]};
    q[1] = {words[4], words[5], words[6], words[7]};
    high = {bits[0], bits[1], bits[2], bits[3]};
    scales = load_word(block + 192 + 4 * p);
    d = load_half(block + 208);
  }
};
template <>
struct Unpacked<TensorType::kQ6_K> {
  int q[16];  // 0 .. 63: 32 too much.
  int scale[4];
  float d;

  __device__ Unpacked(const Fragment<TensorType::kQ6_K>& f, int /*p*/) {
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      const unsigned word = word_of(f.q, k);
      const unsigned bits = word_of(&f.high, k / 2) >> (4 * (k % 2));
      q[k] = static_cast<int>((word & 0x0f0f0f0fu) | ((bits & 0x03030303u) << 4));
      q[8 + k] = static_cast<int>(((word >> 4) & 0x0f0f0f0fu) | ((bits & 0x0c0c0c0cu) << 2));
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) scale[i] = static_cast<std::int8_t>((f.scales >> (8 * i)) & 0xffu);
    d = from_half_bits(f.d);
  }
  __device__ float block(const ActivationLane& x, int b) const {
    return scaled(x, b, dot_16(q + 8 * b, x, 8 * b), dot_16(q + 8 * b + 4, x, 8 * b + 4));
  }
  // v of block 2p + b, from the dot products of its halves with q.
  __device__ float scaled(const ActivationLane& x, int b, int first_dot, int second_dot) const {
    const int first = first_dot - 32 * x.first_sum(b);
    const int second = second_dot - 32 * x.second_sum(b);
    return __fmul_rn(d, __int2float_rn(scale[2 * b] * first + scale[2 * b + 1] * second));
  }
  __device__ float dot(const ActivationLane& x) const {
    return pair_sum(x, block(x, 0), block(x, 1));
  }
  __device__ float element(int b, int l) const {
    const int value = ((q[8 * b + l / 4] >> (8 * (l % 4))) & 0xff) - 32;
    const float scaled = __fmul_rn(d, __int2float_rn(scale[2 * b + l / 16]));
    return __fmul_rn(scaled, __int2float_rn(value));
  }
};

template <>
struct Fragment<TensorType::kQ8_0> {
  static constexpr int kBlockBytes = 272;  // Of eight blocks.
  uint4 q[4];
  unsigned d;  // Of block 2p, and in the upper half of 2p + 1.

  template <typename From = FromDevice>
  __device__ void load(const std::uint8_t* tile, int lane) {
#pragma unroll
    for (int i = 0; i < 4; ++i) q[i] = From::load16(tile + 512 * i + 16 * lane);
    d = From::load4(tile + 2048 + 4 * lane);
  }
  // Blocks from num_blocks on, past the end of the row, count as 0.
  __device__ void load_stored(const std::uint8_t* block, int p, int num_blocks) {
    d = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) q[i] = {0, 0, 0, 0};
#pragma unroll
    for (int b = 0; b < 2; ++b) {
      if (2 * p + b >= num_blocks) continue;
      const std::uint8_t* from = block + 34 * (2 * p + b);
      d |= static_cast<unsigned>(load_half(from)) << (16 * b);
      from += 2;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        q[2 * b + i] = {load_word(from + 16 * i), load_word(from + 16 * i + 4),
                        load_word(from + 16 * i + 8), load_word(from + 16 * i + 12)};
      }
    }
  }
};
template <>
struct Unpacked<TensorType::kQ8_0> {
  int q[16];
  float d[2];

  __device__ Unpacked(const Fragment<TensorType::kQ8_0>& f, int /*p*/) {
#pragma unroll
    for (int k = 0; k < 16; ++k) q[k] = static_cast<int>(word_of(f.q, k));
    d[0] = from_half_bits(static_cast<std::uint16_t>(f.d & 0xffffu));
    d[1] = from_half_bits(static_cast<std::uint16_t>(f.d >> 16));
  }
  __device__ float block(const ActivationLane& x, int b) const {
    const int dot = dot_16(q + 8 * b, x, 8 * b) + dot_16(q + 8 * b + 4, x, 8 * b + 4);
    return __fmul_rn(d[b], __int2float_rn(dot));
  }
  __device__ float dot(const ActivationLane& x) const {
    return pair_sum(x, block(x, 0), block(x, 1));
  }
  __device__ float element(int b, int l) const {
    const int value = static_cast<std::int8_t>((q[8 * b + l / 4] >> (8 * (l % 4))) & 0xff);
    return __fmul_rn(d[b], __int2float_rn(value));
  }
};

// Elements of F32, F16 and BF16 rows.
struct StoredF32 {
  __device__ static float load(const std::uint8_t* row, int c) {
    return reinterpret_cast<const float*>(row)[c];
  }
};
struct StoredF16 {
  __device__ static float load(const std::uint8_t* row, int c) {
    return from_half_bits(reinterpret_cast<const std::uint16_t*>(row)[c]);
  }
};
struct StoredBF16 {
  __device__ static float load(const std::uint8_t* row, int c) {
    return __uint_as_float(static_cast<unsigned>(reinterpret_cast<const std::uint16_t*>(row)[c])
                           << 16);
  }
};

// A matrix as kernels take it: 32-bit counts, offsets in size_t.
struct MatrixArgument {
  const std::uint8_t* data = nullptr;
  std::size_t row_bytes = 0;
  std::size_t expert_stride = 0;
  int rows = 0;
  int columns = 0;
  int tiled_rows = 0;

  MatrixArgument() = default;
  explicit MatrixArgument(const DeviceMatrix& matrix)
      : data(matrix.data),
        row_bytes(matrix.row_bytes),
        expert_stride(matrix.expert_stride),
        rows(static_cast<int>(matrix.rows)),
        columns(static_cast<int>(matrix.columns)),
        tiled_rows(static_cast<int>(matrix.tiled_rows)) {}

  __host__ __device__ int super_blocks() const { return (columns + 255) / 256; }
};

// This thread's fragment of row `row` (in or past the tiles), super-block s, quarter p; `matrix`
// points at the expert's first byte. Rows past the end give zeros.
template <TensorType kType>
__device__ Fragment<kType> load_fragment(const MatrixArgument& w, const std::uint8_t* matrix,
                                         int row, int s, int p) {
  Fragment<kType> fragment{};
  constexpr int kBytes = Fragment<kType>::kBlockBytes;
  if (row < w.tiled_rows) {
    const std::size_t tile =
        static_cast<std::size_t>(row / 8) * static_cast<std::size_t>(w.super_blocks()) +
        static_cast<std::size_t>(s);
    fragment.load(matrix + tile * (8 * kBytes), 4 * (row % 8) + p);
  } else if (row < w.rows) {
    const std::uint8_t* block =
        matrix + static_cast<std::size_t>(row) * w.row_bytes + static_cast<std::size_t>(s) * kBytes;
    fragment.load_stored(block, p, w.columns / 32 - 8 * s);
  }
  return fragment;
}

}  // namespace
}  // namespace refute::cuda
