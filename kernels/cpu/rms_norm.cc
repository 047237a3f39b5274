#include "kernels/rms_norm.h"

#include <cmath>

#include "kernels/cpu/simd.h"
#include "kernels/cpu/work.h"

namespace refute::cpu {

void rms_norm(const Context& context, MatrixView<const float> x, std::span<const float> weight,
              float epsilon, MatrixView<float> y) {
  CHECK(weight.size() == x.columns);
  CHECK(y.rows == x.rows);
  CHECK(y.columns == x.columns);
  const SimdKernels& simd = context.simd();
  const auto size = static_cast<float>(x.columns);
  context.threads().parallel_for(
      x.rows, grain_for(x.columns), [&](std::size_t begin, std::size_t end) {
        for (std::size_t t = begin; t < end; ++t) {
          const float* const row = x.data + t * x.columns;
          // The sum of squares is the dot product of the row with itself.
          const float sum = simd.dot_f32(reinterpret_cast<const std::byte*>(row), row, x.columns);
          const float scale = 1.0f / std::sqrt(sum / size + epsilon);
          simd.scale_by(row, scale, weight.data(), x.columns, y.data + t * y.columns);
        }
      });
}

}  // namespace refute::cpu
