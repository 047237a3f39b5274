#include "kernels/rope.h"

#include "kernels/faulty/rows.h"

namespace refute::oracle {

void rope(const RopeTable& table, std::size_t num_heads, std::size_t first_position,
          MatrixView<double> x) {
  const std::size_t half = table.head_dim() / 2;
  CHECK(x.columns == num_heads * table.head_dim());
  for (std::size_t t = 0; t < x.rows; ++t) {
    if constexpr (kFaultSites) {
      if (faulty::rope_row(table, first_position + t, x.row(t))) continue;
    }
    const auto cosines = table.cosines(first_position + t);
    const auto sines = table.sines(first_position + t);
    for (std::size_t h = 0; h < num_heads; ++h) {
      const auto head = x.row(t).subspan(h * table.head_dim(), table.head_dim());
      for (std::size_t i = 0; i < half; ++i) {
        const double a = head[i];
        const double b = head[i + half];
        head[i] = a * cosines[i] - b * sines[i];
        head[i + half] = b * cosines[i] + a * sines[i];
      }
    }
  }
}

}  // namespace refute::oracle
