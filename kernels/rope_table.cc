#include <cmath>

#include "kernels/rope.h"

namespace refute {

RopeTable::RopeTable(double rope_theta, std::size_t head_dim, std::size_t num_positions)
    : head_dim_(head_dim), num_positions_(num_positions) {
  CHECK(head_dim % 2 == 0);
  const std::size_t half = head_dim / 2;
  cosines_.resize(num_positions * half);
  sines_.resize(num_positions * half);
  for (std::size_t i = 0; i < half; ++i) {
    const double inverse_frequency =
        std::pow(rope_theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
    for (std::size_t p = 0; p < num_positions; ++p) {
      const double angle = static_cast<double>(p) * inverse_frequency;
      cosines_[p * half + i] = std::cos(angle);
      sines_[p * half + i] = std::sin(angle);
    }
  }
  cosines_f32_.assign(cosines_.begin(), cosines_.end());
  sines_f32_.assign(sines_.begin(), sines_.end());
}

std::span<const double> RopeTable::cosines(std::size_t position) const {
  CHECK(position < num_positions_);
  return std::span(cosines_).subspan(position * (head_dim_ / 2), head_dim_ / 2);
}

std::span<const double> RopeTable::sines(std::size_t position) const {
  CHECK(position < num_positions_);
  return std::span(sines_).subspan(position * (head_dim_ / 2), head_dim_ / 2);
}

std::span<const float> RopeTable::cosines_f32(std::size_t position) const {
  CHECK(position < num_positions_);
  return std::span(cosines_f32_).subspan(position * (head_dim_ / 2), head_dim_ / 2);
}

std::span<const float> RopeTable::sines_f32(std::size_t position) const {
  CHECK(position < num_positions_);
  return std::span(sines_f32_).subspan(position * (head_dim_ / 2), head_dim_ / 2);
}

}  // namespace refute
