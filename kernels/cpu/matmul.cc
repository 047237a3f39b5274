#include "kernels/matmul.h"

#include <algorithm>
#include <vector>

#include "kernels/cpu/simd.h"
#include "kernels/cpu/work.h"
#include "kernels/faulty/product.h"

namespace refute::cpu {
namespace {

// Rows that are walked together: all of them for one group of tokens before the next group, so that
// weights come from memory once and a group's activations stay in the first-level cache.
constexpr std::size_t kRowTile = 16;
constexpr std::size_t kTokenTile = 4;

std::size_t row_grain(std::size_t columns, std::size_t num_tokens) {
  const std::size_t rows = grain_for(columns * num_tokens);
  return (rows + kRowTile - 1) / kRowTile * kRowTile;
}

// Calls body(row, first_token, tokens) for every row in [begin, end), tile by tile.
template <typename Body>
void for_each_tile(std::size_t begin, std::size_t end, std::size_t num_tokens, const Body& body) {
  for (std::size_t tile = begin; tile < end; tile += kRowTile) {
    const std::size_t tile_end = std::min(tile + kRowTile, end);
    for (std::size_t t = 0; t < num_tokens; t += kTokenTile) {
      const std::size_t tokens = std::min(kTokenTile, num_tokens - t);
      for (std::size_t r = tile; r < tile_end; ++r) body(r, t, tokens);
    }
  }
}

// Rearranges one token, see ActivationBlock. blocks must be zero.
void arrange(const QuantizedActivations& activations, std::size_t token, ActivationBlock* blocks) {
  const std::int8_t* const q = activations.q.data() + token * activations.columns;
  const std::size_t first = token * activations.blocks();
  for (std::size_t b = 0; b < activations.blocks(); ++b) {
    ActivationBlock& block = blocks[b / 8];
    const std::size_t pair = b % 8 / 2;
    const std::size_t parity = b % 2;
    std::copy_n(q + 32 * b, 32, block.q + 32 * (b % 8));
    block.d[4 * parity + pair] = activations.d[first + b];
    block.sums[4 * parity + pair] = activations.sums[first + b];
    std::int32_t first_half = 0;
    for (std::size_t i = 0; i < 16; ++i) first_half += q[32 * b + i];
    block.half_sums[8 * parity + pair] = 32 * first_half;
    block.half_sums[8 * parity + 4 + pair] = 32 * (activations.sums[first + b] - first_half);
  }
}

DotQuantized dot_quantized(const SimdKernels& simd, TensorType type) {
  switch (type) {
    case TensorType::kQ8_0:
      return simd.dot_q8_0;
    case TensorType::kQ4_K:
      return simd.dot_q4_k;
    case TensorType::kQ5_K:
      return simd.dot_q5_k;
    case TensorType::kQ6_K:
      return simd.dot_q6_k;
    default:
      CHECK(false);
      return nullptr;
  }
}

DotFloat dot_float(const SimdKernels& simd, TensorType type) {
  switch (type) {
    case TensorType::kF32:
      return simd.dot_f32;
    case TensorType::kF16:
      return simd.dot_f16;
    case TensorType::kBF16:
      return simd.dot_bf16;
    default:
      CHECK(false);
      return nullptr;
  }
}

void multiply_quantized(const Context& context, const WeightView& weight,
                        const QuantizedActivations& activations, MatrixView<float> y) {
  const DotQuantized dot = dot_quantized(context.simd(), weight.type);
  const std::size_t num_tokens = activations.rows;
  const std::size_t super_blocks = (weight.columns + 255) / 256;
  const std::size_t bytes_per_row = weight.bytes_per_row();

  std::vector<ActivationBlock> x(num_tokens * super_blocks);
  context.threads().parallel_for(num_tokens, grain_for(2 * weight.columns),
                                 [&](std::size_t begin, std::size_t end) {
                                   for (std::size_t t = begin; t < end; ++t) {
                                     arrange(activations, t, x.data() + t * super_blocks);
                                   }
                                 });

  context.threads().parallel_for(
      weight.rows, row_grain(weight.columns, num_tokens), [&](std::size_t begin, std::size_t end) {
        for_each_tile(
            begin, end, num_tokens, [&](std::size_t r, std::size_t t, std::size_t tokens) {
              dot(weight.data + r * bytes_per_row, weight.columns, x.data() + t * super_blocks,
                  tokens, y.data + t * y.columns + r, y.columns);
            });
      });
}

void multiply_float(const Context& context, const WeightView& weight, MatrixView<const float> x,
                    MatrixView<float> y) {
  const DotFloat dot = dot_float(context.simd(), weight.type);
  const std::size_t bytes_per_row = weight.bytes_per_row();
  context.threads().parallel_for(
      weight.rows, row_grain(weight.columns, x.rows), [&](std::size_t begin, std::size_t end) {
        for_each_tile(
            begin, end, x.rows, [&](std::size_t r, std::size_t first, std::size_t tokens) {
              for (std::size_t t = first; t < first + tokens; ++t) {
                y.data[t * y.columns + r] =
                    dot(weight.data + r * bytes_per_row, x.data + t * x.columns, x.columns);
              }
            });
      });
}

}  // namespace

void quantize_activations(const Context& context, MatrixView<const float> x,
                          QuantizedActivations* activations) {
  activations->resize(x.rows, x.columns);
  const std::size_t blocks = activations->blocks();
  // One element costs about four plain operations.
  context.threads().parallel_for(
      x.rows, grain_for(4 * x.columns), [&](std::size_t begin, std::size_t end) {
        for (std::size_t t = begin; t < end; ++t) {
          context.simd().quantize_row(
              x.data + t * x.columns, x.columns, activations->q.data() + t * x.columns,
              activations->d.data() + t * blocks, activations->sums.data() + t * blocks);
          if constexpr (kFaultSites) faulty::edit_activations(x, t, *activations);
        }
      });
}

void matmul_quantized(const Context& context, const WeightView& weight,
                      const QuantizedActivations& activations, MatrixView<float> y) {
  CHECK(weight.columns == activations.columns);
  CHECK(weight.columns % tensor_type_info(weight.type).block_size == 0);
  CHECK(y.rows == activations.rows);
  CHECK(y.columns == weight.rows);
  if constexpr (kFaultSites) {
    return faulty::matmul_quantized(context, weight, activations, y, multiply_quantized);
  }
  multiply_quantized(context, weight, activations, y);
}

void matmul(const Context& context, const WeightView& weight, MatrixView<const float> x,
            MatrixView<float> y) {
  CHECK(x.columns == weight.columns);
  CHECK(y.rows == x.rows);
  CHECK(y.columns == weight.rows);
  if (tensor_type_info(weight.type).is_quantized) {
    QuantizedActivations activations;
    quantize_activations(context, x, &activations);
    matmul_quantized(context, weight, activations, y);
    return;
  }
  if constexpr (kFaultSites) {
    return faulty::matmul_float(context, weight, x, y, multiply_float);
  }
  multiply_float(context, weight, x, y);
}

}  // namespace refute::cpu
