#include "kernels/swiglu.h"

#include <utility>

#include "kernels/cpu/simd.h"
#include "kernels/cpu/work.h"
#include "kernels/faulty/rows.h"

namespace refute::cpu {

void swiglu(const Context& context, MatrixView<const float> gate, MatrixView<const float> up,
            MatrixView<float> y) {
  CHECK(up.rows == gate.rows && up.columns == gate.columns);
  CHECK(y.rows == gate.rows && y.columns == gate.columns);
  if constexpr (kFaultSites) {
    if (faulty::swaps_gate_and_up(gate, up)) std::swap(gate, up);
    if (faulty::swiglu(gate, up, y)) return;
  }
  // Elements are independent: rows don't matter. One costs about ten plain operations.
  context.threads().parallel_for(y.size(), grain_for(10), [&](std::size_t begin, std::size_t end) {
    context.simd().swiglu(gate.data + begin, up.data + begin, end - begin, y.data + begin);
  });
}

}  // namespace refute::cpu
