// Random rows in every weight type, as stored. The bytes depend on the arguments alone: no library
// function whose last bit varies between machines takes part.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "kernels/quant/tensor_type.h"

namespace refute {

// The random numbers of one row of one tensor. Rows are independent of each other, so that threads
// can make them in any order.
class RowRandom {
 public:
  RowRandom(std::uint64_t seed, std::string_view tensor, std::uint64_t row);

  std::uint64_t next();
  double uniform(double low, double high);  // In [low, high).
  // Mean 0, variance 1, in [-3.47, 3.47]: a sum of four uniform integers, nearly normal.
  double normal();

 private:
  std::uint64_t state_;
};

// Fills a stored row with valid blocks whose values have mean about 0 and standard deviation about
// `deviation`, all scales finite. Preconditions: a weight type, row a multiple of its block bytes.
void fill_weight_row(TensorType type, double deviation, RowRandom& random,
                     std::span<std::byte> row);

// Fills a norm's weights, 1 + 0.2 * normal. Preconditions: F32, F16 or BF16.
void fill_norm_row(TensorType type, RowRandom& random, std::span<std::byte> row);

}  // namespace refute
