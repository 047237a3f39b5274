// The inner loops that exist once per instruction set: a table of functions on raw pointers. The
// ops (matmul.cc, attention.cc, ...) check shapes, split work over threads and call the table of
// their Context. Every table gives the same bits; only NaN payloads may differ.
//
// The tables' source files are compiled for their instruction set, so this header and everything
// that those files include define nothing that a linker could share between them: no inline
// functions or templates of external linkage (a shared copy could be the one that the processor
// lacks).
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/context.h"

namespace refute::cpu {

// 256 quantized activations, one super-block, arranged for the dot products. "Even-odd order" of
// the 8 blocks of 32: 0 2 4 6 1 3 5 7, so that u[p] of kernels/matmul.h combines the two halves of
// d.
struct alignas(64) ActivationBlock {
  std::int8_t q[256];          // In order of columns; zeros past the end of the row.
  float d[8];                  // Even-odd order; 0 past the end of the row.
  std::int32_t sums[8];        // Sum of q over 32 columns, even-odd order.
  std::int32_t half_sums[16];  // 32 x the sums over 16 columns: first and second halves of the even
                               // blocks, then of the odd ones ([parity][half][block / 2]).
};
static_assert(sizeof(ActivationBlock) == 384);

// y[t * y_stride] = the product of one stored row of `columns` weights with the activations of
// token t < num_tokens, which start at x + t * ceil(columns / 256).
using DotQuantized = void (*)(const std::byte* row, std::size_t columns, const ActivationBlock* x,
                              std::size_t num_tokens, float* y, std::size_t y_stride);

// sum over c < columns of row[c] * x[c], in the 128-lane order of kernels/matmul.h.
using DotFloat = float (*)(const std::byte* row, const float* x, std::size_t columns);

struct TileKernels;  // kernels/cpu/tiles.h

// Of a chunk of positions (kernels/attention.h): m_j and l_j.
struct AttentionTerms {
  float max;
  float sum;
};

struct SimdKernels {
  Isa isa;
  const TileKernels* tiles;  // Null where products read rows as stored.

  // As quantize_activation_row in kernels/quant/activations.h.
  void (*quantize_row)(const float* x, std::size_t columns, std::int8_t* q, float* d,
                       std::int32_t* sums);
  DotQuantized dot_q8_0, dot_q4_k, dot_q5_k, dot_q6_k;
  DotFloat dot_f32, dot_f16, dot_bf16;

  // y[i] = (x[i] * scale) * weight[i]. y may be x.
  void (*scale_by)(const float* x, float scale, const float* weight, std::size_t size, float* y);
  // y[i] = a[i] + b[i]. y may be a or b.
  void (*add)(const float* a, const float* b, std::size_t size, float* y);
  // y[i] = (gate[i] / (1 + exp32(-gate[i]))) * up[i]. y may be gate or up.
  void (*swiglu)(const float* gate, const float* up, std::size_t size, float* y);
  // Turns one head of 2 * half elements in place, as in kernels/rope.h.
  void (*rope)(const float* cosines, const float* sines, std::size_t half, float* head);

  // The steps of kernels/attention.h; keys and values are float16 and serve several heads, whose
  // queries follow each other.
  // scores[h * scores_stride + s] = (q[h * head_dim ..] . keys[s * stride ..]) * scale for h <
  // heads and s < count.
  void (*scores)(const float* q, std::size_t heads, std::size_t head_dim, const std::uint16_t* keys,
                 std::size_t stride, std::size_t count, float scale, float* scores,
                 std::size_t scores_stride);
  // Of one chunk, 1 <= count <= 128: scores become e[s]; m_j and l_j.
  AttentionTerms (*softmax_terms)(float* scores, std::size_t count);
  // y[h * y_stride + i] = Y_j[i] of head h for i < size; terms[h * terms_stride ..] are its e[s].
  void (*chunk_values)(const float* terms, std::size_t terms_stride, std::size_t heads,
                       std::size_t count, const std::uint16_t* values, std::size_t stride,
                       std::size_t size, float* y, std::size_t y_stride);
  // y[i] = fma(y[i], a, chunk[i] * b) for i < size.
  void (*merge_chunk)(const float* chunk, float a, float b, std::size_t size, float* y);

  // y[i] = (fma chain over ascending s < count from 0 of coefficients[s] * rows[s * stride + i]) /
  // denominator, for i < size.
  void (*weighted_sum_f32)(const float* coefficients, std::size_t count, const float* rows,
                           std::size_t stride, std::size_t size, float denominator, float* y);

  // XOR of the words, which reads each once: for kernels/cpu/read_bandwidth.h.
  std::uint64_t (*xor_words)(const std::uint64_t* words, std::size_t count);
};

extern const SimdKernels kPortableKernels;
// Defined where the target is x86-64 (REFUTE_CPU_X86).
extern const SimdKernels kAvx2Kernels;
extern const SimdKernels kAvx512Kernels;
extern const TileKernels kAvx512TileKernels;

}  // namespace refute::cpu
