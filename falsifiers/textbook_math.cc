#include "falsifiers/textbook_math.h"

#include <algorithm>
#include <cmath>

#include "falsifiers/generators.h"
#include "falsifiers/textbook.h"
#include "kernels/check.h"

namespace refute::textbook {

std::vector<double> stored_row(const WeightView& weight, std::size_t row) {
  CHECK(row < weight.rows);
  std::vector<double> values(weight.columns);
  for (std::size_t c = 0; c < weight.columns; ++c) {
    values[c] = element(weight.type, weight.row(row), c).value;
  }
  return values;
}

double dot(std::span<const double> a, std::span<const double> b) {
  CHECK(a.size() == b.size());
  long double sum = 0.0L;
  for (std::size_t i = 0; i < a.size(); ++i) sum += static_cast<long double>(a[i]) * b[i];
  return static_cast<double>(sum);
}

std::vector<double> rms_norm(std::span<const double> x, std::span<const float> gain,
                             double epsilon) {
  CHECK(x.size() == gain.size());
  const double mean_square = dot(x, x) / static_cast<double>(x.size());
  std::vector<double> y(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    y[i] = static_cast<double>(gain[i]) * x[i] / std::sqrt(mean_square + epsilon);
  }
  return y;
}

std::vector<double> rope(std::span<const double> x, std::size_t head_dim, double theta,
                         std::size_t position) {
  const std::size_t half = head_dim / 2;
  std::vector<double> y(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::size_t lane = i % head_dim;
    const double exponent = -2.0 * static_cast<double>(lane % half) / static_cast<double>(head_dim);
    const double angle = static_cast<double>(position) * std::pow(theta, exponent);
    // Of the plane (x[lane], x[lane + half]): the first coordinate loses what the second gains.
    const double partner = lane < half ? -x[i + half] : x[i - half];
    y[i] = x[i] * std::cos(angle) + partner * std::sin(angle);
  }
  return y;
}

std::vector<double> attention(const AttentionShape& shape, std::span<const double> q,
                              MatrixView<const double> k, MatrixView<const double> v) {
  const std::size_t size = shape.head_dim;
  const std::size_t group_size = shape.num_attention_heads / shape.num_key_value_heads;
  std::vector<double> y(q.size());
  std::vector<double> score(k.rows);
  for (std::size_t head = 0; head < shape.num_attention_heads; ++head) {
    const std::size_t shared = head / group_size * size;
    for (std::size_t s = 0; s < k.rows; ++s) {
      score[s] = dot(q.subspan(head * size, size), k.row(s).subspan(shared, size)) /
                 std::sqrt(static_cast<double>(size));
    }
    const std::vector<double> probability = softmax(score);
    for (std::size_t i = 0; i < size; ++i) {
      for (std::size_t s = 0; s < k.rows; ++s) {
        y[head * size + i] += probability[s] * v.row(s)[shared + i];
      }
    }
  }
  return y;
}

double silu(double x) { return x / (1.0 + std::exp(-x)); }

}  // namespace refute::textbook
