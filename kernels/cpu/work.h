// How small a piece of an op is still worth another thread.
#pragma once

#include <algorithm>
#include <cstddef>

namespace refute::cpu {

// Items a range should have at least, when one item takes `operations` of elementwise work: 16384
// operations, a microsecond or more, against the cost of handing out a range.
inline std::size_t grain_for(std::size_t operations) {
  return std::max<std::size_t>(1, 16384 / std::max<std::size_t>(1, operations));
}

}  // namespace refute::cpu
