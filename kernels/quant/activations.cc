#include "kernels/quant/activations.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/check.h"
#include "kernels/quant/blocks.h"

namespace refute {

void QuantizedActivations::resize(std::size_t new_rows, std::size_t new_columns) {
  CHECK(new_columns % kActivationBlock == 0);
  rows = new_rows;
  columns = new_columns;
  q.resize(rows * columns);
  d.resize(rows * blocks());
  sums.resize(rows * blocks());
}

void quantize_activation_row(std::span<const float> x, std::span<std::int8_t> q, std::span<float> d,
                             std::span<std::int32_t> sums) {
  CHECK(x.size() % kActivationBlock == 0);
  CHECK(q.size() == x.size());
  CHECK(d.size() == x.size() / kActivationBlock);
  CHECK(sums.size() == d.size());
  for (std::size_t b = 0; b < d.size(); ++b) {
    const auto block = x.subspan(b * kActivationBlock, kActivationBlock);
    const auto out = q.subspan(b * kActivationBlock, kActivationBlock);
    float max = 0.0f;
    bool finite = true;
    for (const float value : block) {
      finite &= std::isfinite(value);
      max = std::max(max, std::fabs(value));
    }
    d[b] = finite ? max / 127.0f : std::numeric_limits<float>::quiet_NaN();
    sums[b] = 0;
    for (std::size_t i = 0; i < kActivationBlock; ++i) {
      if (!(d[b] > 0.0f)) {
        out[i] = 0;
        continue;
      }
      // nearbyint rounds half to even in the default rounding mode.
      const float rounded = std::nearbyint(block[i] / d[b]);
      out[i] = static_cast<std::int8_t>(std::clamp(rounded, -127.0f, 127.0f));
      sums[b] += out[i];
    }
  }
}

}  // namespace refute
