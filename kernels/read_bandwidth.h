// How fast memory can be read: the figure that a decoded token's bytes are held against. A
// measurement, not an op.
#pragma once

#include <vector>

namespace refute {

// The middle value, or the mean of the middle two. Precondition: not empty.
double median(std::vector<double> values);

// Bytes a second of several passes over a buffer that no cache holds. What others read meanwhile
// makes a pass slower, never faster: `best` is what the memory can do, `median` what it did.
struct ReadBandwidth {
  double median = 0.0;
  double best = 0.0;
};

}  // namespace refute
