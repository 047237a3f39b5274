// Attention written a second time, with faults to choose from.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "tests/falsifiers/broken_backend.h"

namespace refute {

struct AttentionFault {
  std::size_t sees_ahead = 0;
  bool excludes_self = false;
  bool takes_heads_modulo = false;
  bool scales = true;
  double denominator = 1.0;
};

// Attention in float64 with a fault.
inline BrokenBackend attention_with(const AttentionFault& fault) {
  BrokenBackend broken;
  broken.attention_fault = [fault](const AttentionShape& shape, MatrixView<const double> q,
                                   MatrixView<const double> k, MatrixView<const double> v,
                                   std::size_t first) -> Result<Matrix<double>> {
    const std::size_t size = shape.head_dim;
    const std::size_t group = shape.num_attention_heads / shape.num_key_value_heads;
    Matrix<double> y(q.rows, q.columns);
    for (std::size_t t = 0; t < q.rows; ++t) {
      std::size_t visible = std::min(first + t + 1 + fault.sees_ahead, k.rows);
      if (fault.excludes_self && visible > 1) --visible;
      for (std::size_t h = 0; h < shape.num_attention_heads; ++h) {
        const std::size_t head =
            fault.takes_heads_modulo ? h % shape.num_key_value_heads : h / group;
        std::vector<double> score(visible);
        for (std::size_t s = 0; s < visible; ++s) {
          for (std::size_t i = 0; i < size; ++i) {
            score[s] += q.row(t)[h * size + i] * k.row(s)[head * size + i];
          }
          if (fault.scales) score[s] /= std::sqrt(static_cast<double>(size));
        }
        const double max = *std::ranges::max_element(score);
        double sum = 0.0;
        for (std::size_t s = 0; s < visible; ++s) {
          const double weight = std::exp(score[s] - max);
          sum += weight;
          for (std::size_t i = 0; i < size; ++i) {
            y(t, h * size + i) += weight * v.row(s)[head * size + i];
          }
        }
        for (double& value : y.row(t).subspan(h * size, size)) value /= sum * fault.denominator;
      }
    }
    return y;
  };
  return broken;
}

}  // namespace refute
