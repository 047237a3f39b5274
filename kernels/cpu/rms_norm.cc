#include "kernels/rms_norm.h"

#include <cmath>

#include "kernels/cpu/simd.h"
#include "kernels/cpu/work.h"
#include "kernels/faulty/rows.h"

namespace refute::cpu {

void rms_norm(const Context& context, MatrixView<const float> x, std::span<const float> weight,
              float epsilon, MatrixView<float> y) {
  CHECK(weight.size() == x.columns);
  CHECK(y.rows == x.rows);
  CHECK(y.columns == x.columns);
  if constexpr (kFaultSites) {
    epsilon = faulty::norm_epsilon(epsilon);
    weight = faulty::norm_weight<float>(weight);
    if (faulty::centre_rows(x, y)) x = y;
  }
  const SimdKernels& simd = context.simd();
  const auto size = static_cast<float>(x.columns);
  context.threads().parallel_for(
      x.rows, grain_for(x.columns), [&](std::size_t begin, std::size_t end) {
        for (std::size_t t = begin; t < end; ++t) {
          const float* const row = x.data + t * x.columns;
          // The sum of squares is the dot product of the row with itself.
          const float sum = simd.dot_f32(reinterpret_cast<const std::byte*>(row), row, x.columns);
          float rms = std::sqrt(sum / size + epsilon);
          if constexpr (kFaultSites) rms = faulty::norm_rms(sum, x.columns, epsilon, rms);
          const float scale = 1.0f / rms;
          simd.scale_by(row, scale, weight.data(), x.columns, y.data + t * y.columns);
        }
      });
}

}  // namespace refute::cpu
