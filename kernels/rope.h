// Rotary position embedding (Su et al., 2021), NeoX pairing: element i turns with i + head_dim / 2.
//
//   angle(p, i) = p * rope_theta^(-2 i / head_dim)                 i in [0, head_dim / 2)
//   y[i]                = x[i] cos - x[i + head_dim / 2] sin
//   y[i + head_dim / 2] = x[i + head_dim / 2] cos + x[i] sin
//
//   x  [num_tokens, num_heads * head_dim], turned in place
//
// Angles, cosines and sines are float64; the fast backends round the cosines and sines to float32
// and compute y[i] = fma(x[i], cos, -(x[j] * sin)), y[j] = fma(x[j], cos, x[i] * sin).
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "kernels/cpu/context.h"
#include "kernels/matrix.h"

namespace refute {

// Cosines and sines for positions [0, num_positions).
class RopeTable {
 public:
  RopeTable() = default;
  RopeTable(double rope_theta, std::size_t head_dim, std::size_t num_positions);

  std::size_t head_dim() const { return head_dim_; }
  std::size_t num_positions() const { return num_positions_; }
  // [head_dim / 2] each. Precondition: position < num_positions().
  std::span<const double> cosines(std::size_t position) const;
  std::span<const double> sines(std::size_t position) const;
  // The same rounded to float32.
  std::span<const float> cosines_f32(std::size_t position) const;
  std::span<const float> sines_f32(std::size_t position) const;
  // All positions, [num_positions, head_dim / 2].
  std::span<const float> all_cosines_f32() const { return cosines_f32_; }
  std::span<const float> all_sines_f32() const { return sines_f32_; }

 private:
  std::size_t head_dim_ = 0;
  std::size_t num_positions_ = 0;
  std::vector<double> cosines_, sines_;  // [num_positions, head_dim / 2]
  std::vector<float> cosines_f32_, sines_f32_;
};

namespace oracle {

// Row t stands at position first_position + t.
void rope(const RopeTable& table, std::size_t num_heads, std::size_t first_position,
          MatrixView<double> x);

}  // namespace oracle

namespace cpu {

void rope(const Context& context, const RopeTable& table, std::size_t num_heads,
          std::size_t first_position, MatrixView<float> x);

}  // namespace cpu
}  // namespace refute
