#include "kernels/attention.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/faulty/attention.h"

namespace refute::oracle {

void attention(const AttentionShape& shape, MatrixView<const double> q, MatrixView<const double> k,
               MatrixView<const double> v, std::size_t first_position, MatrixView<double> y) {
  CHECK(shape.num_key_value_heads > 0);
  CHECK(shape.num_attention_heads % shape.num_key_value_heads == 0);
  CHECK(q.columns == shape.query_size() && y.columns == shape.query_size());
  CHECK(k.columns == shape.key_value_size() && v.columns == shape.key_value_size());
  CHECK(y.rows == q.rows);
  CHECK(k.rows >= first_position + q.rows && v.rows >= first_position + q.rows);
  const std::size_t group_size = shape.num_attention_heads / shape.num_key_value_heads;
  const double scale = 1.0 / std::sqrt(static_cast<double>(shape.head_dim));
  for (std::size_t t = 0; t < q.rows; ++t) {
    std::vector<double> score;
    for (std::size_t h = 0; h < shape.num_attention_heads; ++h) {
      HeadRead<double> read{first_position + t + 1, h / group_size, scale};
      if constexpr (kFaultSites) faulty::edit_read(shape, t, q.rows, h, read);
      score.resize(read.kv_len);
      const auto query = q.row(t).subspan(h * shape.head_dim, shape.head_dim);
      const std::size_t offset = read.kv_head * shape.head_dim;
      for (std::size_t s = 0; s < read.kv_len; ++s) {
        const auto key = k.row(s).subspan(offset, shape.head_dim);
        double dot = 0.0;
        for (std::size_t i = 0; i < shape.head_dim; ++i) dot += query[i] * key[i];
        score[s] = dot * read.scale;
      }
      if constexpr (kFaultSites) {
        faulty::turn_scores(query, k.data + offset, k.columns, read.scale, score);
      }
      double max = *std::max_element(score.begin(), score.end());
      if constexpr (kFaultSites) max = faulty::skips_maximum(score) ? 0.0 : max;
      double sum = 0.0;
      for (double& value : score) {
        value = std::exp(value - max);
        sum += value;
      }
      if constexpr (kFaultSites) sum = faulty::edit_denominator(sum);
      const auto out = y.row(t).subspan(h * shape.head_dim, shape.head_dim);
      std::fill(out.begin(), out.end(), 0.0);
      for (std::size_t s = 0; s < read.kv_len; ++s) {
        const auto value = v.row(s).subspan(offset, shape.head_dim);
        for (std::size_t i = 0; i < shape.head_dim; ++i) out[i] += score[s] / sum * value[i];
      }
      if constexpr (kFaultSites) faulty::edit_head(h, out);
    }
  }
}

}  // namespace refute::oracle
