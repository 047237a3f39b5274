// The middle of measurements.
#pragma once

#include <vector>

namespace refute {

// The middle value, or the mean of the middle two. Precondition: not empty.
double median(std::vector<double> values);

}  // namespace refute
