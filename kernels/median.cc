#include "kernels/median.h"

#include <algorithm>
#include <cstddef>

#include "kernels/check.h"

namespace refute {

double median(std::vector<double> values) {
  CHECK(!values.empty());
  std::ranges::sort(values);
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : 0.5 * (values[middle - 1] + values[middle]);
}

}  // namespace refute
