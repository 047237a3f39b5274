// The kernels without any instruction set beyond the compiler's baseline.

#include <algorithm>
#include <cstring>
#include <span>

#include "kernels/cpu/float_kernels.h"
#include "kernels/cpu/quantized_kernels.h"
#include "kernels/cpu/scalar.h"
#include "kernels/cpu/simd.h"
#include "kernels/quant/activations.h"
#include "kernels/quant/blocks.h"
#include "kernels/quant/half.h"

namespace refute::cpu {
namespace {

struct LoadHalf {
  static float load(const std::uint16_t* from) { return float_from_half(*from); }
};
using Scalar = ScalarVector<LoadHalf>;

void quantize_row(const float* x, std::size_t columns, std::int8_t* q, float* d,
                  std::int32_t* sums) {
  quantize_activation_row({x, columns}, {q, columns}, {d, columns / 32}, {sums, columns / 32});
}

// A stored super-block as integers in order of columns.
struct PortableWeights {
  std::int16_t q[256];  // int16, so that the compiler's baseline finds its multiply-add of pairs.
  std::int32_t scales[16];  // For 16 columns each.
  std::int32_t mins[8];     // For 32 columns each; 0 where the type has none.
  float d[8];               // For 32 columns each.
  float dmin;
};

// S[s] from the 8 values v[b] and activation scales, kernels/matmul.h. `d` is in even-odd order.
float combine_blocks(const float v[8], const float d[8]) {
  float u[4];
  for (int p = 0; p < 4; ++p) u[p] = Scalar::fma(d[4 + p], v[2 * p + 1], d[p] * v[2 * p]);
  return (u[0] + u[1]) + (u[2] + u[3]);
}

std::uint64_t xor_words(const std::uint64_t* words, std::size_t count) {
  std::uint64_t sum[8] = {};
  std::size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    for (std::size_t lane = 0; lane < 8; ++lane) sum[lane] ^= words[i + lane];
  }
  std::uint64_t total = 0;
  for (const std::uint64_t lane : sum) total ^= lane;
  for (; i < count; ++i) total ^= words[i];
  return total;
}

int even_odd(int block) { return block / 2 + 4 * (block % 2); }

std::int32_t dot_16(const std::int16_t* a, const std::int8_t* b) {
  std::int32_t sum = 0;
  // Not unrolled, since g++ vectorises the sum of a loop only.
#pragma GCC unroll 1
  for (int i = 0; i < 16; ++i) sum += a[i] * static_cast<std::int16_t>(b[i]);
  return sum;
}

// Shared by the formats: kHasMin for Q4_K and Q5_K.
template <bool kHasMin>
float dot_super_block(const PortableWeights& w, const ActivationBlock& x) {
  float v[8];
  for (int b = 0; b < 8; ++b) {
    const std::int32_t dot = w.scales[2 * b] * dot_16(w.q + 32 * b, x.q + 32 * b) +
                             w.scales[2 * b + 1] * dot_16(w.q + 32 * b + 16, x.q + 32 * b + 16);
    if constexpr (kHasMin) {
      const auto min = static_cast<float>(w.mins[b] * x.sums[even_odd(b)]);
      v[b] = Scalar::fms(w.d[b], static_cast<float>(dot), w.dmin * min);
    } else {
      v[b] = w.d[b] * static_cast<float>(dot);
    }
  }
  return combine_blocks(v, x.d);
}

void load_scales_mins(const std::uint8_t scales[12], std::uint16_t d, std::uint16_t dmin,
                      PortableWeights* w) {
  for (int b = 0; b < 8; ++b) {
    const ScaleMin pair = unpack_scale_min(scales, b);
    w->scales[2 * b] = w->scales[2 * b + 1] = pair.scale;
    w->mins[b] = pair.min;
    w->d[b] = float_from_half(d);
  }
  w->dmin = float_from_half(dmin);
}

template <typename Block>
Block load_block(const std::byte* row, std::size_t index) {
  Block block;
  std::memcpy(&block, row + index * sizeof(Block), sizeof(Block));
  return block;
}

struct FormatQ8_0 {
  using Weights = PortableWeights;
  static Weights load(const std::byte* row, std::size_t s, std::size_t columns) {
    Weights w;
    for (std::size_t b = 0; b < 8; ++b) {
      // Past the end of the row the weights count as 0.
      BlockQ8_0 block = {};
      if (8 * s + b < columns / 32) block = load_block<BlockQ8_0>(row, 8 * s + b);
      std::copy_n(block.q, 32, w.q + 32 * b);
      w.scales[2 * b] = w.scales[2 * b + 1] = 1;
      w.d[b] = float_from_half(block.d);
    }
    return w;
  }
  static float dot(const Weights& w, const ActivationBlock& x) {
    return dot_super_block<false>(w, x);
  }
};

struct FormatQ4K {
  using Weights = PortableWeights;
  static Weights load(const std::byte* row, std::size_t s, std::size_t) {
    const auto block = load_block<BlockQ4K>(row, s);
    Weights w;
    load_scales_mins(block.scales, block.d, block.dmin, &w);
    for (int p = 0; p < 4; ++p) {
      for (int l = 0; l < 32; ++l) {
        w.q[64 * p + l] = static_cast<std::int16_t>(block.q[32 * p + l] & 15);
        w.q[64 * p + 32 + l] = static_cast<std::int16_t>(block.q[32 * p + l] >> 4);
      }
    }
    return w;
  }
  static float dot(const Weights& w, const ActivationBlock& x) {
    return dot_super_block<true>(w, x);
  }
};

struct FormatQ5K {
  using Weights = PortableWeights;
  static Weights load(const std::byte* row, std::size_t s, std::size_t) {
    const auto block = load_block<BlockQ5K>(row, s);
    Weights w;
    load_scales_mins(block.scales, block.d, block.dmin, &w);
    for (int p = 0; p < 4; ++p) {
      for (int l = 0; l < 32; ++l) {
        const int high = block.q_high[l] >> (2 * p);
        const int q = block.q[32 * p + l];
        w.q[64 * p + l] = static_cast<std::int16_t>((q & 15) | ((high & 1) << 4));
        w.q[64 * p + 32 + l] = static_cast<std::int16_t>((q >> 4) | ((high & 2) << 3));
      }
    }
    return w;
  }
  static float dot(const Weights& w, const ActivationBlock& x) {
    return dot_super_block<true>(w, x);
  }
};

struct FormatQ6K {
  using Weights = PortableWeights;
  static Weights load(const std::byte* row, std::size_t s, std::size_t) {
    const auto block = load_block<BlockQ6K>(row, s);
    Weights w;
    for (int i = 0; i < 16; ++i) w.scales[i] = block.scales[i];
    for (float& d : w.d) d = float_from_half(block.d);
    for (int h = 0; h < 2; ++h) {
      for (int l = 0; l < 32; ++l) {
        const int a = block.q_low[64 * h + l];
        const int b = block.q_low[64 * h + 32 + l];
        const int high = block.q_high[32 * h + l];
        std::int16_t* const q = w.q + 128 * h + l;
        q[0] = static_cast<std::int16_t>(((a & 15) | ((high & 3) << 4)) - 32);
        q[32] = static_cast<std::int16_t>(((b & 15) | ((high & 12) << 2)) - 32);
        q[64] = static_cast<std::int16_t>(((a >> 4) | (high & 48)) - 32);
        q[96] = static_cast<std::int16_t>(((b >> 4) | ((high & 192) >> 2)) - 32);
      }
    }
    return w;
  }
  static float dot(const Weights& w, const ActivationBlock& x) {
    return dot_super_block<false>(w, x);
  }
};

}  // namespace

constinit const SimdKernels kPortableKernels = {
    .isa = Isa::kPortable,
    .tiles = nullptr,
    .quantize_row = quantize_row,
    .dot_q8_0 = dot_quantized<FormatQ8_0>,
    .dot_q4_k = dot_quantized<FormatQ4K>,
    .dot_q5_k = dot_quantized<FormatQ5K>,
    .dot_q6_k = dot_quantized<FormatQ6K>,
    .dot_f32 = dot_bytes<Scalar, Scalar, StoredF32>,
    .dot_f16 = dot_bytes<Scalar, Scalar, StoredF16>,
    .dot_bf16 = dot_bytes<Scalar, Scalar, StoredBF16>,
    .scale_by = scale_by<Scalar, Scalar>,
    .add = add<Scalar, Scalar>,
    .swiglu = swiglu<Scalar, Scalar>,
    .rope = rope<Scalar, Scalar>,
    .scores = scores<Scalar, Scalar>,
    .softmax_terms = softmax_terms<Scalar, Scalar>,
    .chunk_values = chunk_values<Scalar, Scalar>,
    .merge_chunk = merge_chunk<Scalar, Scalar>,
    .weighted_sum_f32 = weighted_sum<Scalar, Scalar, StoredF32>,
    .xor_words = xor_words,
};

}  // namespace refute::cpu
