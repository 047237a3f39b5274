// The check that every scale of a model's weights is finite.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "kernels/quant/dequantize.h"
#include "kernels/result.h"

namespace refute {

struct ScannedTensor {
  std::string name;
  WeightView rows;                  // All of its rows, of all experts.
  std::size_t rows_per_expert = 0;  // 0 for a tensor that is not divided into experts.
};

// kNonFinite names the first tensor, expert and row, in the order given, whose scales hold NaN or
// Inf; `file` is how the error calls the file. The tensors lie in `mapped`, the whole file, which is
// read once, in its order. The result does not depend on num_threads, which is at least 1.
Result<void> check_scales(const std::string& file, std::span<const std::byte> mapped,
                          std::span<const ScannedTensor> tensors, std::size_t num_threads);

}  // namespace refute
