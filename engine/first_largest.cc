#include "engine/first_largest.h"

#include <algorithm>
#include <array>
#include <cstddef>

#include "kernels/check.h"

namespace refute {
namespace {

// Of finite values, at least one. A vector of maxima, each of every 16th value, is what a compiler
// makes wide; one value after the other took a fiftieth of a token.
float largest_of(std::span<const float> values) {
  std::array<float, 16> largest;
  largest.fill(values.front());
  std::size_t i = 0;
  for (; i + largest.size() <= values.size(); i += largest.size()) {
    for (std::size_t lane = 0; lane < largest.size(); ++lane) {
      largest[lane] = values[i + lane] > largest[lane] ? values[i + lane] : largest[lane];
    }
  }
  float most = *std::ranges::max_element(largest);
  for (; i < values.size(); ++i) most = std::max(most, values[i]);
  return most;
}

}  // namespace

// It is in the first of the runs that hold a value as large.
std::int32_t first_largest(std::span<const float> values) {
  CHECK(!values.empty());
  constexpr std::size_t kRun = 1024;
  std::size_t first = 0;
  float most = largest_of(values.first(std::min(kRun, values.size())));
  for (std::size_t i = kRun; i < values.size(); i += kRun) {
    const float largest = largest_of(values.subspan(i, std::min(kRun, values.size() - i)));
    if (largest > most) {
      most = largest;
      first = i;
    }
  }
  const std::span<const float> run = values.subspan(first);
  return static_cast<std::int32_t>(first) +
         static_cast<std::int32_t>(std::ranges::find(run, most) - run.begin());
}

}  // namespace refute
