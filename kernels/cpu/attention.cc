#include "kernels/attention.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <span>
#include <vector>

#include "kernels/cpu/simd.h"
#include "kernels/cpu/work.h"
#include "kernels/faulty/attention.h"
#include "kernels/math.h"

namespace refute::cpu {
namespace {

// Heads that share keys and values and are computed together, each key and value widened once.
constexpr std::size_t kMostHeads = 4;

// y[h] = Y of kernels/attention.h for the heads h < y.rows, from all their scores [y.rows, count],
// which become terms; sums[h] = l. chunk: room for one Y_j of each, as y.
void merge_chunks(const SimdKernels& simd, MatrixView<float> scores, const std::uint16_t* values,
                  std::size_t stride, MatrixView<float> chunk, MatrixView<float> y, float* sums) {
  std::array<AttentionTerms, kMostHeads> merged{};
  for (std::size_t first = 0; first < scores.columns; first += kAttentionChunk) {
    const std::size_t count = std::min(kAttentionChunk, scores.columns - first);
    std::array<AttentionTerms, kMostHeads> of{};
    for (std::size_t h = 0; h < y.rows; ++h) {
      of[h] = simd.softmax_terms(scores.row(h).data() + first, count);
    }
    simd.chunk_values(scores.data + first, scores.columns, y.rows, count, values + first * stride,
                      stride, y.columns, first == 0 ? y.data : chunk.data, y.columns);
    if (first == 0) {
      merged = of;
      continue;
    }
    for (std::size_t h = 0; h < y.rows; ++h) {
      const float max = std::max(merged[h].max, of[h].max);
      const float a = exp32(merged[h].max - max);
      const float b = exp32(of[h].max - max);
      simd.merge_chunk(chunk.row(h).data(), a, b, y.columns, y.row(h).data());
      merged[h] = {max, std::fma(merged[h].sum, a, of[h].sum * b)};
    }
  }
  for (std::size_t h = 0; h < y.rows; ++h) sums[h] = merged[h].sum;
}

// How many heads are one item of work: as many as share keys and values, unless the threads would
// have less than two items each. Faults change heads one by one.
std::size_t heads_at_once(const Context& context, std::size_t num_tokens, std::size_t num_heads,
                          std::size_t group_size) {
  if constexpr (kFaultSites) return 1;
  std::size_t heads = kMostHeads;
  while (heads > 1 && (group_size % heads != 0 ||
                       num_tokens * num_heads / heads < 2 * context.threads().num_threads())) {
    heads /= 2;
  }
  return heads;
}

// Positions that are asked for ahead: what a second-level cache holds of two heads.
constexpr std::size_t kAheadPositions = 1024;

// Asks for the first positions of a key-value head. Its rows are short and far apart, so the
// processor does not guess the next one.
void ask_for(const std::uint16_t* head, std::size_t stride, std::size_t head_dim,
             std::size_t positions) {
  constexpr std::size_t kLine = 64 / sizeof(std::uint16_t);
  for (std::size_t s = 0; s < std::min(positions, kAheadPositions); ++s) {
    for (std::size_t i = 0; i < head_dim; i += kLine)
      __builtin_prefetch(head + s * stride + i, 0, 2);
  }
}

}  // namespace

void attention(const Context& context, const AttentionShape& shape, MatrixView<const float> q,
               MatrixView<const std::uint16_t> k, MatrixView<const std::uint16_t> v,
               std::size_t first_position, MatrixView<float> y) {
  CHECK(shape.num_key_value_heads > 0);
  CHECK(shape.num_attention_heads % shape.num_key_value_heads == 0);
  CHECK(q.columns == shape.query_size() && y.columns == shape.query_size());
  CHECK(k.columns == shape.key_value_size() && v.columns == shape.key_value_size());
  CHECK(y.rows == q.rows);
  CHECK(k.rows >= first_position + q.rows && v.rows >= first_position + q.rows);
  const SimdKernels& simd = context.simd();
  const std::size_t heads = shape.num_attention_heads;
  const std::size_t group_size = heads / shape.num_key_value_heads;
  const std::size_t stride = shape.key_value_size();
  const float scale = 1.0f / std::sqrt(static_cast<float>(shape.head_dim));
  const std::size_t max_kv_len = first_position + q.rows;

  // Heads that share keys and values come one after the other. The last tokens see the most
  // positions and go first, so that the threads end together.
  const std::size_t at_once = heads_at_once(context, q.rows, heads, group_size);
  const std::size_t runs = heads / at_once;
  context.threads().parallel_for(
      q.rows * runs, grain_for(at_once * max_kv_len * shape.head_dim),
      [&](std::size_t begin, std::size_t end) {
        std::vector<float> scores(at_once * max_kv_len);
        std::vector<float> chunk(at_once * shape.head_dim);
        if (q.rows == 1) {
          for (std::size_t g = (runs - end) * at_once / group_size;
               g <= (runs - 1 - begin) * at_once / group_size; ++g) {
            const std::size_t offset = g * shape.head_dim;
            ask_for(k.data + offset, stride, shape.head_dim, max_kv_len);
            ask_for(v.data + offset, stride, shape.head_dim, max_kv_len);
          }
        }
        for (std::size_t i = begin; i < end; ++i) {
          const std::size_t item = q.rows * runs - 1 - i;
          const std::size_t t = item / runs;
          const std::size_t h = item % runs * at_once;
          HeadRead<float> read{first_position + t + 1, h / group_size, scale};
          if constexpr (kFaultSites) faulty::edit_read(shape, t, q.rows, h, read);
          const std::size_t kv_offset = read.kv_head * shape.head_dim;
          const std::size_t q_offset = t * q.columns + h * shape.head_dim;
          const MatrixView<float> all(scores.data(), at_once, read.kv_len);
          simd.scores(q.data + q_offset, at_once, shape.head_dim, k.data + kv_offset, stride,
                      read.kv_len, read.scale, all.data, all.columns);
          if constexpr (kFaultSites) {
            faulty::turn_scores({q.data + q_offset, shape.head_dim}, k.data + kv_offset, stride,
                                read.scale, all.flat());
          }
          const MatrixView<float> out(y.data + q_offset, at_once, shape.head_dim);
          std::array<float, kMostHeads> denominators{};
          merge_chunks(simd, all, v.data + kv_offset, stride,
                       {chunk.data(), at_once, shape.head_dim}, out, denominators.data());
          for (std::size_t j = 0; j < at_once; ++j) {
            if constexpr (kFaultSites) {
              denominators[j] = faulty::edit_denominator(denominators[j]);
            }
            for (float& value : out.row(j)) value /= denominators[j];
            if constexpr (kFaultSites) faulty::edit_head(h + j, out.row(j));
          }
        }
      });
}

}  // namespace refute::cpu
