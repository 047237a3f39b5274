// A second decoder of the stored block formats, written from the format's description element by
// element and sharing nothing with kernels/quant: what dequantization is tried against.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/quant/tensor_type.h"

namespace refute::textbook {

struct Element {
  double value = 0.0;      // Exact.
  double magnitude = 0.0;  // |d * scale * quant| + |dmin * min|: what rounding errors scale with.
};

// Element `column` of a stored row of a weight type.
Element element(TensorType type, const std::byte* row, std::size_t column);

// Value of a float16 bit pattern.
double half(std::uint16_t bits);

// The 6-bit scale and minimum of sub-block `index` (0 to 7) in 12 packed bytes of Q4_K or Q5_K.
struct ScaleMin {
  unsigned scale = 0;
  unsigned min = 0;
};
ScaleMin scale_min(std::span<const std::byte, 12> packed, std::size_t index);

// Writes them; the other sub-blocks keep theirs.
void set_scale_min(std::span<std::byte, 12> packed, std::size_t index, ScaleMin value);

// Writes the stored quant of element `column` of a stored row of Q8_0 (-127 to 127), Q4_K (0 to
// 15), Q5_K (0 to 31) or Q6_K (-32 to 31); the row's other bits stay.
void set_quant(TensorType type, std::byte* row, std::size_t column, int quant);

// Element `column` is step * quant - offset: what the scales of its block say.
struct Steps {
  double step = 0.0;
  double offset = 0.0;
};
Steps steps(TensorType type, const std::byte* row, std::size_t column);

}  // namespace refute::textbook
