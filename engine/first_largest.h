// The greedy choice of a token.
#pragma once

#include <cstdint>
#include <span>

namespace refute {

// The index of the first of the largest values. Preconditions: at least one, all finite.
std::int32_t first_largest(std::span<const float> values);

}  // namespace refute
