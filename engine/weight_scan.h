// The check that every scale of a model's weights is finite.
#pragma once

#include <cstddef>
#include <functional>
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

// Rows [begin, end) of a tensor, whose scales were found finite. begin is a multiple of
// kScannedRows; end is one too or the tensor's last.
inline constexpr std::size_t kScannedRows = 16;
using RowsScanned =
    std::function<void(const ScannedTensor& tensor, std::size_t begin, std::size_t end)>;

// kNonFinite names the first tensor, expert and row, in the order given, whose scales hold NaN or
// Inf; `file` is how the error calls the file. The tensors lie in `mapped`, the whole file, which
// is read once, in its order. The result does not depend on num_threads, which is at least 1.
// scanned, unless empty, hears of all rows, from several threads at once, right after they were
// looked at; of those of an error it does not.
Result<void> check_scales(const std::string& file, std::span<const std::byte> mapped,
                          std::span<const ScannedTensor> tensors, std::size_t num_threads,
                          const RowsScanned& scanned = {});

}  // namespace refute
