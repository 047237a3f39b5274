// How fast memory can be read: the figure that a decoded token's bytes are held against. A
// measurement, not an op.
#pragma once

#include <algorithm>
#include <vector>

#include "kernels/median.h"

namespace refute {

// Bytes a second of several passes over a buffer that no cache holds. What others read meanwhile
// makes a pass slower, never faster: `best` is what the memory can do, `median` what it did.
struct ReadBandwidth {
  double median = 0.0;
  double best = 0.0;

  // rates: of the passes. Precondition: not empty.
  static ReadBandwidth of(const std::vector<double>& rates) {
    return {refute::median(rates), std::ranges::max(rates)};
  }
};

}  // namespace refute
