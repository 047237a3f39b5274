#include "kernels/swiglu.h"

#include "kernels/cpu/simd.h"
#include "kernels/cpu/work.h"

namespace refute::cpu {

void swiglu(const Context& context, MatrixView<const float> gate, MatrixView<const float> up,
            MatrixView<float> y) {
  CHECK(up.rows == gate.rows && up.columns == gate.columns);
  CHECK(y.rows == gate.rows && y.columns == gate.columns);
  // Elements are independent: rows don't matter. One costs about ten plain operations.
  context.threads().parallel_for(y.size(), grain_for(10), [&](std::size_t begin, std::size_t end) {
    context.simd().swiglu(gate.data + begin, up.data + begin, end - begin, y.data + begin);
  });
}

}  // namespace refute::cpu
