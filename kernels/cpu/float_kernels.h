// The float kernels of simd.h, written once over a vector type V, so that every instruction set
// runs the same sequence of correctly rounded operations. Included by the simd_*.cc files only,
// each of which defines its V (AVX-512: 16 floats, AVX2: 8, portable: 1) and a Scalar (1 float) for
// the ends of rows. Everything has internal linkage: see simd.h.
//
// V has: Float, kWidth; zero, set, load, load_half, load_bfloat16, store; add, sub, mul, div, min,
// max (of x86: the second operand where either is NaN), fma(a, b, c) = a * b + c, fms(a, b, c) = a
// * b - c; negate; scale_by_power(p, shifted), the last step of exp32; reduce, the halving tree
// inside one vector; reduce_four, that of four vectors at once; reduce_max.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/simd.h"
#include "kernels/math.h"

namespace refute::cpu {
namespace {

constexpr std::size_t kLanes = 128;

// How elements are stored, and how V loads them.
struct StoredF32 {
  using Element = float;
  template <typename V>
  static typename V::Float load(const Element* from) {
    return V::load(from);
  }
};
struct StoredF16 {
  using Element = std::uint16_t;
  template <typename V>
  static typename V::Float load(const Element* from) {
    return V::load_half(from);
  }
};
struct StoredBF16 {
  using Element = std::uint16_t;
  template <typename V>
  static typename V::Float load(const Element* from) {
    return V::load_bfloat16(from);
  }
};

// exp32 of kernels/math.h, operation by operation.
template <typename V>
typename V::Float exp32_vector(typename V::Float x) {
  using Float = typename V::Float;
  if constexpr (V::kWidth == 1) {
    return exp32(x);
  } else {
    const Float clamped = V::min(V::set(kExp32High), V::max(V::set(kExp32Low), x));
    const Float shifted = V::fma(clamped, V::set(kExp32InverseLn2), V::set(kExp32Shift));
    const Float n = V::sub(shifted, V::set(kExp32Shift));
    Float r = V::fma(n, V::set(-kExp32Ln2High), clamped);
    r = V::fma(n, V::set(-kExp32Ln2Low), r);
    Float p = V::set(kExp32Taylor[0]);
#pragma GCC unroll 8
    for (int i = 1; i < kExp32Terms; ++i) p = V::fma(p, r, V::set(kExp32Taylor[i]));
    return V::scale_by_power(p, shifted);
  }
}

// sum over c of w[c] * x[c] in the 128-lane order of kernels/matmul.h: kVectors accumulators, in
// passes of at most 8 so that they fit the registers, then the halving tree.
template <typename V, typename Scalar, typename Stored>
float dot_lanes(const typename Stored::Element* w, const float* x, std::size_t columns) {
  using Float = typename V::Float;
  constexpr std::size_t kVectors = kLanes / V::kWidth;
  constexpr std::size_t kPass = kVectors < 8 ? kVectors : 8;
  const std::size_t whole = columns / kLanes * kLanes;
  const std::size_t rest = columns - whole;
  Float lanes[kVectors];
#pragma GCC unroll 2
  for (std::size_t first = 0; first < kVectors; first += kPass) {
    Float sum[kPass];
#pragma GCC unroll 8
    for (std::size_t i = 0; i < kPass; ++i) sum[i] = V::zero();
    for (std::size_t c = first * V::kWidth; c < whole; c += kLanes) {
#pragma GCC unroll 8
      for (std::size_t i = 0; i < kPass; ++i) {
        const std::size_t at = c + i * V::kWidth;
        sum[i] = V::fma(Stored::template load<V>(w + at), V::load(x + at), sum[i]);
      }
    }
    if (rest != 0) {
#pragma GCC unroll 8
      for (std::size_t i = 0; i < kPass; ++i) {
        const std::size_t lane = (first + i) * V::kWidth;
        const std::size_t at = whole + lane;
        if (lane + V::kWidth <= rest) {
          sum[i] = V::fma(Stored::template load<V>(w + at), V::load(x + at), sum[i]);
        } else if (lane < rest) {
          // Lanes past the end keep their value: adding 0 would turn -0 into +0.
          float end[V::kWidth];
          V::store(end, sum[i]);
          for (std::size_t l = 0; lane + l < rest; ++l) {
            end[l] = Scalar::fma(Stored::template load<Scalar>(w + at + l), x[at + l], end[l]);
          }
          sum[i] = V::load(end);
        }
      }
    }
#pragma GCC unroll 8
    for (std::size_t i = 0; i < kPass; ++i) lanes[first + i] = sum[i];
  }
#pragma GCC unroll 8
  for (std::size_t h = kVectors / 2; h > 0; h /= 2) {
#pragma GCC unroll 16
    for (std::size_t i = 0; i < h; ++i) lanes[i] = V::add(lanes[i], lanes[i + h]);
  }
  return V::reduce(lanes[0]);
}

template <typename V, typename Scalar>
void scale_by(const float* x, float scale, const float* weight, std::size_t size, float* y) {
  std::size_t i = 0;
  for (; i + V::kWidth <= size; i += V::kWidth) {
    V::store(y + i, V::mul(V::mul(V::load(x + i), V::set(scale)), V::load(weight + i)));
  }
  for (; i < size; ++i) y[i] = Scalar::mul(Scalar::mul(x[i], scale), weight[i]);
}

template <typename V, typename Scalar>
void add(const float* a, const float* b, std::size_t size, float* y) {
  std::size_t i = 0;
  for (; i + V::kWidth <= size; i += V::kWidth) {
    V::store(y + i, V::add(V::load(a + i), V::load(b + i)));
  }
  for (; i < size; ++i) y[i] = Scalar::add(a[i], b[i]);
}

template <typename V>
typename V::Float swiglu_vector(typename V::Float gate, typename V::Float up) {
  const auto exponential = exp32_vector<V>(V::negate(gate));
  return V::mul(V::div(gate, V::add(V::set(1.0f), exponential)), up);
}

template <typename V, typename Scalar>
void swiglu(const float* gate, const float* up, std::size_t size, float* y) {
  std::size_t i = 0;
  for (; i + V::kWidth <= size; i += V::kWidth) {
    V::store(y + i, swiglu_vector<V>(V::load(gate + i), V::load(up + i)));
  }
  for (; i < size; ++i) y[i] = swiglu_vector<Scalar>(gate[i], up[i]);
}

template <typename V>
void rope_vector(const float* cosines, const float* sines, float* first, float* second) {
  const auto a = V::load(first);
  const auto b = V::load(second);
  const auto cosine = V::load(cosines);
  const auto sine = V::load(sines);
  V::store(first, V::fms(a, cosine, V::mul(b, sine)));
  V::store(second, V::fma(b, cosine, V::mul(a, sine)));
}

template <typename V, typename Scalar>
void rope(const float* cosines, const float* sines, std::size_t half, float* head) {
  std::size_t i = 0;
  for (; i + V::kWidth <= half; i += V::kWidth) {
    rope_vector<V>(cosines + i, sines + i, head + i, head + half + i);
  }
  for (; i < half; ++i) rope_vector<Scalar>(cosines + i, sines + i, head + i, head + half + i);
}

// The 16-lane dot products of kernels/attention.h of kHeads queries and one key, which is widened
// once for all of them; scores[h * scores_stride] = dot of head h * scale.
template <typename V, typename Scalar, std::size_t kHeads>
[[gnu::always_inline]] inline void score_key(const float* q, std::size_t head_dim,
                                             const std::uint16_t* key, float scale, float* scores,
                                             std::size_t scores_stride) {
  constexpr std::size_t kLaneCount = 16;
  constexpr std::size_t kVectors = kLaneCount / V::kWidth;
  const std::size_t whole = head_dim / kLaneCount * kLaneCount;
  typename V::Float lanes[kHeads][kVectors];
#pragma GCC unroll 4
  for (std::size_t h = 0; h < kHeads; ++h) {
#pragma GCC unroll 16
    for (std::size_t i = 0; i < kVectors; ++i) lanes[h][i] = V::zero();
  }
  for (std::size_t c = 0; c < whole; c += kLaneCount) {
#pragma GCC unroll 16
    for (std::size_t i = 0; i < kVectors; ++i) {
      const std::size_t at = c + i * V::kWidth;
      const auto wide = V::load_half(key + at);
#pragma GCC unroll 4
      for (std::size_t h = 0; h < kHeads; ++h) {
        lanes[h][i] = V::fma(wide, V::load(q + h * head_dim + at), lanes[h][i]);
      }
    }
  }
  typename V::Float sums[kHeads];
#pragma GCC unroll 4
  for (std::size_t h = 0; h < kHeads; ++h) {
    if (whole < head_dim) {
      alignas(64) float end[kLaneCount];
#pragma GCC unroll 16
      for (std::size_t i = 0; i < kVectors; ++i) V::store(end + i * V::kWidth, lanes[h][i]);
      for (std::size_t c = whole; c < head_dim; ++c) {
        end[c - whole] =
            Scalar::fma(Scalar::load_half(key + c), q[h * head_dim + c], end[c - whole]);
      }
#pragma GCC unroll 16
      for (std::size_t i = 0; i < kVectors; ++i) lanes[h][i] = V::load(end + i * V::kWidth);
    }
#pragma GCC unroll 4
    for (std::size_t half = kVectors / 2; half > 0; half /= 2) {
#pragma GCC unroll 8
      for (std::size_t i = 0; i < half; ++i) lanes[h][i] = V::add(lanes[h][i], lanes[h][i + half]);
    }
    sums[h] = lanes[h][0];
  }
  if constexpr (kHeads == 4) {
    float dots[4];
    V::reduce_four(sums, dots);
#pragma GCC unroll 4
    for (std::size_t h = 0; h < 4; ++h) scores[h * scores_stride] = dots[h] * scale;
  } else {
#pragma GCC unroll 4
    for (std::size_t h = 0; h < kHeads; ++h) scores[h * scores_stride] = V::reduce(sums[h]) * scale;
  }
}

template <typename V, typename Scalar>
void scores(const float* q, std::size_t heads, std::size_t head_dim, const std::uint16_t* keys,
            std::size_t stride, std::size_t count, float scale, float* out,
            std::size_t out_stride) {
  std::size_t h = 0;
  for (; h + 4 <= heads; h += 4) {
    for (std::size_t s = 0; s < count; ++s) {
      score_key<V, Scalar, 4>(q + h * head_dim, head_dim, keys + s * stride, scale,
                              out + h * out_stride + s, out_stride);
    }
  }
  for (; h < heads; ++h) {
    for (std::size_t s = 0; s < count; ++s) {
      score_key<V, Scalar, 1>(q + h * head_dim, head_dim, keys + s * stride, scale,
                              out + h * out_stride + s, out_stride);
    }
  }
}

template <typename V, typename Scalar>
AttentionTerms softmax_terms(float* values, std::size_t count) {
  constexpr float kLowest = -3.402823466e38f;
  float max = kLowest;
  std::size_t i = 0;
  if (count >= V::kWidth) {
    auto max_vector = V::set(kLowest);
    for (; i + V::kWidth <= count; i += V::kWidth) {
      max_vector = V::max(V::load(values + i), max_vector);
    }
    max = V::reduce_max(max_vector);
  }
  for (; i < count; ++i) max = Scalar::max(values[i], max);

  alignas(64) float lanes[kLanes] = {};
  for (i = 0; i + V::kWidth <= count; i += V::kWidth) {
    const auto term = exp32_vector<V>(V::sub(V::load(values + i), V::set(max)));
    V::store(values + i, term);
    V::store(lanes + i, term);
  }
  for (; i < count; ++i) {
    values[i] = exp32_vector<Scalar>(Scalar::sub(values[i], max));
    lanes[i] = values[i];
  }
  for (std::size_t h = kLanes / 2; h > 0; h /= 2) {
    for (std::size_t l = 0; l < h; ++l) lanes[l] = Scalar::add(lanes[l], lanes[l + h]);
  }
  return {max, lanes[0]};
}

// kCount vectors of columns of a chunk at once, for kHeads heads, which share the widened values.
template <typename V, std::size_t kHeads, std::size_t kCount>
void chunk_columns(const float* terms, std::size_t terms_stride, std::size_t count,
                   const std::uint16_t* values, std::size_t stride, float* y,
                   std::size_t y_stride) {
  constexpr std::size_t kChain = 32;
  // Adding to -0 changes nothing, not even a sign.
  typename V::Float total[kHeads][kCount];
#pragma GCC unroll 4
  for (std::size_t h = 0; h < kHeads; ++h) {
#pragma GCC unroll 8
    for (std::size_t j = 0; j < kCount; ++j) total[h][j] = V::set(-0.0f);
  }
  for (std::size_t first = 0; first < count; first += kChain) {
    const std::size_t end = first + kChain < count ? first + kChain : count;
    typename V::Float sum[kHeads][kCount];
#pragma GCC unroll 4
    for (std::size_t h = 0; h < kHeads; ++h) {
#pragma GCC unroll 8
      for (std::size_t j = 0; j < kCount; ++j) sum[h][j] = V::zero();
    }
    for (std::size_t s = first; s < end; ++s) {
      typename V::Float wide[kCount];
#pragma GCC unroll 8
      for (std::size_t j = 0; j < kCount; ++j) {
        wide[j] = V::load_half(values + s * stride + j * V::kWidth);
      }
#pragma GCC unroll 4
      for (std::size_t h = 0; h < kHeads; ++h) {
        const auto term = V::set(terms[h * terms_stride + s]);
#pragma GCC unroll 8
        for (std::size_t j = 0; j < kCount; ++j) sum[h][j] = V::fma(term, wide[j], sum[h][j]);
      }
    }
#pragma GCC unroll 4
    for (std::size_t h = 0; h < kHeads; ++h) {
#pragma GCC unroll 8
      for (std::size_t j = 0; j < kCount; ++j) total[h][j] = V::add(total[h][j], sum[h][j]);
    }
  }
#pragma GCC unroll 4
  for (std::size_t h = 0; h < kHeads; ++h) {
#pragma GCC unroll 8
    for (std::size_t j = 0; j < kCount; ++j) {
      V::store(y + h * y_stride + j * V::kWidth, total[h][j]);
    }
  }
}

// kCount: vectors of columns that the registers hold for kHeads heads.
template <typename V, typename Scalar, std::size_t kHeads, std::size_t kCount>
void chunk_heads(const float* terms, std::size_t terms_stride, std::size_t count,
                 const std::uint16_t* values, std::size_t stride, std::size_t size, float* y,
                 std::size_t y_stride) {
  std::size_t i = 0;
  for (; i + kCount * V::kWidth <= size; i += kCount * V::kWidth) {
    chunk_columns<V, kHeads, kCount>(terms, terms_stride, count, values + i, stride, y + i,
                                     y_stride);
  }
  for (; i + V::kWidth <= size; i += V::kWidth) {
    chunk_columns<V, kHeads, 1>(terms, terms_stride, count, values + i, stride, y + i, y_stride);
  }
  for (; i < size; ++i) {
    chunk_columns<Scalar, kHeads, 1>(terms, terms_stride, count, values + i, stride, y + i,
                                     y_stride);
  }
}

template <typename V, typename Scalar>
void chunk_values(const float* terms, std::size_t terms_stride, std::size_t heads,
                  std::size_t count, const std::uint16_t* values, std::size_t stride,
                  std::size_t size, float* y, std::size_t y_stride) {
  std::size_t h = 0;
  for (; h + 4 <= heads; h += 4) {
    chunk_heads<V, Scalar, 4, 4>(terms + h * terms_stride, terms_stride, count, values, stride,
                                 size, y + h * y_stride, y_stride);
  }
  for (; h < heads; ++h) {
    chunk_heads<V, Scalar, 1, 8>(terms + h * terms_stride, terms_stride, count, values, stride,
                                 size, y + h * y_stride, y_stride);
  }
}

template <typename V, typename Scalar>
void merge_chunk(const float* chunk, float a, float b, std::size_t size, float* y) {
  std::size_t i = 0;
  for (; i + V::kWidth <= size; i += V::kWidth) {
    V::store(y + i, V::fma(V::load(y + i), V::set(a), V::mul(V::load(chunk + i), V::set(b))));
  }
  for (; i < size; ++i) y[i] = Scalar::fma(y[i], a, Scalar::mul(chunk[i], b));
}

// kCount vectors of columns at once, so that the chains over the rows overlap.
template <typename V, typename Stored, std::size_t kCount>
void weighted_columns(const float* coefficients, std::size_t count,
                      const typename Stored::Element* rows, std::size_t stride, float denominator,
                      float* y) {
  typename V::Float sum[kCount];
#pragma GCC unroll 8
  for (std::size_t j = 0; j < kCount; ++j) sum[j] = V::zero();
  for (std::size_t s = 0; s < count; ++s) {
    const auto coefficient = V::set(coefficients[s]);
#pragma GCC unroll 8
    for (std::size_t j = 0; j < kCount; ++j) {
      const auto row = Stored::template load<V>(rows + s * stride + j * V::kWidth);
      sum[j] = V::fma(coefficient, row, sum[j]);
    }
  }
#pragma GCC unroll 8
  for (std::size_t j = 0; j < kCount; ++j) {
    V::store(y + j * V::kWidth, V::div(sum[j], V::set(denominator)));
  }
}

template <typename V, typename Scalar, typename Stored>
void weighted_sum(const float* coefficients, std::size_t count,
                  const typename Stored::Element* rows, std::size_t stride, std::size_t size,
                  float denominator, float* y) {
  std::size_t i = 0;
  for (; i + 8 * V::kWidth <= size; i += 8 * V::kWidth) {
    weighted_columns<V, Stored, 8>(coefficients, count, rows + i, stride, denominator, y + i);
  }
  for (; i + 2 * V::kWidth <= size; i += 2 * V::kWidth) {
    weighted_columns<V, Stored, 2>(coefficients, count, rows + i, stride, denominator, y + i);
  }
  for (; i + V::kWidth <= size; i += V::kWidth) {
    weighted_columns<V, Stored, 1>(coefficients, count, rows + i, stride, denominator, y + i);
  }
  for (; i < size; ++i) {
    weighted_columns<Scalar, Stored, 1>(coefficients, count, rows + i, stride, denominator, y + i);
  }
}

template <typename V, typename Scalar, typename Stored>
float dot_bytes(const std::byte* row, const float* x, std::size_t columns) {
  return dot_lanes<V, Scalar, Stored>(reinterpret_cast<const typename Stored::Element*>(row), x,
                                      columns);
}

}  // namespace
}  // namespace refute::cpu
