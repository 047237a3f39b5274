#include "kernels/attention.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "kernels/cpu/simd.h"
#include "kernels/cpu/work.h"
#include "kernels/faulty/attention.h"
#include "kernels/math.h"

namespace refute::cpu {
namespace {

// y = Y of kernels/attention.h, from all scores of a head, which become terms; returns l. chunk:
// room for one Y_j.
float merge_chunks(const SimdKernels& simd, std::span<float> scores, const std::uint16_t* values,
                   std::size_t stride, std::span<float> chunk, std::span<float> y) {
  AttentionTerms merged{};
  for (std::size_t first = 0; first < scores.size(); first += kAttentionChunk) {
    const std::size_t count = std::min(kAttentionChunk, scores.size() - first);
    float* const terms = scores.data() + first;
    const AttentionTerms of = simd.softmax_terms(terms, count);
    float* const to = first == 0 ? y.data() : chunk.data();
    simd.chunk_values(terms, count, values + first * stride, stride, y.size(), to);
    if (first == 0) {
      merged = of;
      continue;
    }
    const float max = std::max(merged.max, of.max);
    const float a = exp32(merged.max - max);
    const float b = exp32(of.max - max);
    simd.merge_chunk(chunk.data(), a, b, y.size(), y.data());
    merged = {max, std::fma(merged.sum, a, of.sum * b)};
  }
  return merged.sum;
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

  // One item is one head of one token; heads that share keys and values come one after the other.
  // The last tokens see the most positions and go first, so that the threads end together.
  context.threads().parallel_for(
      q.rows * heads, grain_for(max_kv_len * shape.head_dim),
      [&](std::size_t begin, std::size_t end) {
        std::vector<float> scores(max_kv_len);
        std::vector<float> chunk(shape.head_dim);
        for (std::size_t i = begin; i < end; ++i) {
          const std::size_t item = q.rows * heads - 1 - i;
          const std::size_t t = item / heads;
          const std::size_t h = item % heads;
          HeadRead<float> read{first_position + t + 1, h / group_size, scale};
          if constexpr (kFaultSites) faulty::edit_read(shape, t, q.rows, h, read);
          const std::size_t kv_offset = read.kv_head * shape.head_dim;
          const std::size_t q_offset = t * q.columns + h * shape.head_dim;
          simd.scores(q.data + q_offset, shape.head_dim, k.data + kv_offset, stride, read.kv_len,
                      read.scale, scores.data());
          if constexpr (kFaultSites) {
            faulty::turn_scores({q.data + q_offset, shape.head_dim}, k.data + kv_offset, stride,
                                read.scale, std::span(scores).first(read.kv_len));
          }
          const std::span<float> out(y.data + q_offset, shape.head_dim);
          float denominator = merge_chunks(simd, std::span(scores).first(read.kv_len),
                                           v.data + kv_offset, stride, chunk, out);
          if constexpr (kFaultSites) denominator = faulty::edit_denominator(denominator);
          for (float& value : out) value /= denominator;
          if constexpr (kFaultSites) {
            faulty::edit_head(h, out);
          }
        }
      });
}

}  // namespace refute::cpu
