#include "kernels/combine.h"

#include "kernels/cpu/simd.h"
#include "kernels/cpu/work.h"
#include "kernels/faulty/rows.h"

namespace refute::cpu {

void combine(const Context& context, MatrixView<const float> expert_out,
             MatrixView<const float> weight, MatrixView<float> y) {
  const std::size_t k = weight.columns;
  CHECK(expert_out.rows == weight.rows * k);
  CHECK(y.rows == weight.rows && y.columns == expert_out.columns);
  context.threads().parallel_for(
      y.rows, grain_for(k * y.columns), [&](std::size_t begin, std::size_t end) {
        for (std::size_t t = begin; t < end; ++t) {
          // Division by 1 changes nothing.
          context.simd().weighted_sum_f32(
              weight.data + t * k, k, expert_out.data + t * k * expert_out.columns,
              expert_out.columns, y.columns, 1.0f, y.data + t * y.columns);
        }
      });
  if constexpr (kFaultSites) faulty::edit_token_rows(y);
}

void add(const Context& context, MatrixView<const float> a, MatrixView<const float> b,
         MatrixView<float> y) {
  CHECK(a.rows == b.rows && a.columns == b.columns);
  CHECK(y.rows == a.rows && y.columns == a.columns);
  context.threads().parallel_for(y.size(), grain_for(1), [&](std::size_t begin, std::size_t end) {
    context.simd().add(a.data + begin, b.data + begin, end - begin, y.data + begin);
  });
}

}  // namespace refute::cpu
