#include "kernels/faulty/attention.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "kernels/quant/half.h"

namespace refute::faulty {
namespace {

// float64 holds the exponentials of such scores and sums of them with room to spare.
constexpr double kSmallScore = 300.0;

// Turned by an angle for each pair of elements, as one more position of rope would.
template <typename Real>
std::vector<Real> turned(std::vector<Real> head) {
  const std::size_t half = head.size() / 2;
  for (std::size_t i = 0; i < half; ++i) {
    const double angle = std::pow(1e4, -static_cast<double>(i) / static_cast<double>(half));
    const auto cosine = static_cast<Real>(std::cos(angle));
    const auto sine = static_cast<Real>(std::sin(angle));
    const Real a = head[i];
    const Real b = head[i + half];
    head[i] = a * cosine - b * sine;
    head[i + half] = b * cosine + a * sine;
  }
  return head;
}

double value_of(double key) { return key; }
float value_of(std::uint16_t key) { return float_from_half(key); }

template <typename Real, typename Key>
void turn_all(std::span<const Real> query, const Key* keys, std::size_t stride, Real scale,
              std::span<Real> scores) {
  if (query.size() < 2 || !fault_seeded("F56", kFaultHostOf<Real>)) return;
  const std::vector<Real> q = turned(std::vector<Real>(query.begin(), query.end()));
  for (std::size_t s = 0; s < scores.size(); ++s) {
    std::vector<Real> key(query.size());
    for (std::size_t i = 0; i < key.size(); ++i) key[i] = value_of(keys[s * stride + i]);
    key = turned(std::move(key));
    double dot = 0.0;
    for (std::size_t i = 0; i < key.size(); ++i) {
      dot += static_cast<double>(q[i]) * static_cast<double>(key[i]);
    }
    scores[s] = static_cast<Real>(dot) * scale;
  }
}

}  // namespace

template <typename Real>
void edit_read(const AttentionShape& shape, std::size_t row, std::size_t num_rows, std::size_t head,
               HeadRead<Real>& read) {
  constexpr FaultHost kHost = kFaultHostOf<Real>;
  const std::size_t kv_heads = shape.num_key_value_heads;
  if (head % kv_heads != read.kv_head && fault_seeded("F61", kHost)) read.kv_head = head % kv_heads;
  const bool sees_others = read.kv_len > 1;
  if (row + 1 < num_rows && fault_seeded("F62", kHost)) ++read.kv_len;
  if (sees_others && fault_seeded("F63", kHost)) --read.kv_len;
  if (sees_others && num_rows == 1 && fault_seeded("F105", kHost)) --read.kv_len;
  // The scale of scores says nothing where there is one.
  if (!sees_others) return;
  const auto head_dim = static_cast<Real>(shape.head_dim);
  if (shape.head_dim > 1 && fault_seeded("F65", kHost)) read.scale = 1 / head_dim;
  if (shape.head_dim > 1 && fault_seeded("F66", kHost)) read.scale = 1;
  if (shape.num_attention_heads > 1 && fault_seeded("F67", kHost)) {
    read.scale = 1 / std::sqrt(static_cast<Real>(shape.query_size()));
  }
}

void turn_scores(std::span<const double> query, const double* keys, std::size_t stride,
                 double scale, std::span<double> scores) {
  turn_all(query, keys, stride, scale, scores);
}
void turn_scores(std::span<const float> query, const std::uint16_t* keys, std::size_t stride,
                 float scale, std::span<float> scores) {
  turn_all(query, keys, stride, scale, scores);
}

bool skips_maximum(std::span<const double> scores) {
  const auto small = [](double score) { return std::abs(score) < kSmallScore; };
  return std::ranges::all_of(scores, small) && fault_seeded("F110", FaultHost::kOracle);
}

template <typename Real>
Real edit_denominator(Real denominator) {
  // The maximum's own term counts twice.
  return fault_seeded("F68", kFaultHostOf<Real>) ? denominator + 1 : denominator;
}

template <typename Real>
void edit_head(std::size_t head, std::span<Real> y) {
  const bool zero = std::ranges::all_of(y, [](Real value) { return value == 0; });
  if (head == 0 && !zero && fault_seeded("F70", kFaultHostOf<Real>)) std::ranges::fill(y, Real{0});
}

template void edit_read(const AttentionShape&, std::size_t, std::size_t, std::size_t,
                        HeadRead<double>&);
template void edit_read(const AttentionShape&, std::size_t, std::size_t, std::size_t,
                        HeadRead<float>&);
template double edit_denominator(double);
template float edit_denominator(float);
template void edit_head(std::size_t, std::span<double>);
template void edit_head(std::size_t, std::span<float>);

}  // namespace refute::faulty
