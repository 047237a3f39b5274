#include "kernels/rope.h"

#include "kernels/cpu/simd.h"
#include "kernels/cpu/work.h"
#include "kernels/faulty/rows.h"

namespace refute::cpu {

void rope(const Context& context, const RopeTable& table, std::size_t num_heads,
          std::size_t first_position, MatrixView<float> x) {
  CHECK(x.columns == num_heads * table.head_dim());
  const SimdKernels& simd = context.simd();
  context.threads().parallel_for(x.rows, grain_for(x.columns),
                                 [&](std::size_t begin, std::size_t end) {
                                   for (std::size_t t = begin; t < end; ++t) {
                                     if constexpr (kFaultSites) {
                                       if (faulty::rope_row(table, first_position + t, x.row(t))) {
                                         continue;
                                       }
                                     }
                                     const auto cosines = table.cosines_f32(first_position + t);
                                     const auto sines = table.sines_f32(first_position + t);
                                     for (std::size_t h = 0; h < num_heads; ++h) {
                                       simd.rope(cosines.data(), sines.data(), cosines.size(),
                                                 x.data + t * x.columns + h * table.head_dim());
                                     }
                                   }
                                 });
}

}  // namespace refute::cpu
