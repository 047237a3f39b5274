#include "kernels/attention.h"

#include <cmath>
#include <vector>

#include "kernels/cpu/simd.h"
#include "kernels/cpu/work.h"
#include "kernels/faulty/attention.h"

namespace refute::cpu {

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
          float denominator = simd.softmax_terms(scores.data(), read.kv_len);
          if constexpr (kFaultSites) denominator = faulty::edit_denominator(denominator);
          simd.weighted_sum_f16(scores.data(), read.kv_len, v.data + kv_offset, stride,
                                shape.head_dim, denominator, y.data + q_offset);
          if constexpr (kFaultSites) {
            faulty::edit_head(h, std::span(y.data + q_offset, shape.head_dim));
          }
        }
      });
}

}  // namespace refute::cpu
