#include "engine/first_largest.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <vector>

namespace refute {
namespace {

TEST(FirstLargest, IsFoundWhereverItIs) {
  for (const std::size_t size : {1, 2, 15, 16, 17, 1023, 1024, 1025, 2048, 3001}) {
    for (const std::size_t at : {std::size_t{0}, size / 3, size / 2, size - 1}) {
      std::vector<float> values(size, -2.0f);
      values[at] = -1.0f;
      EXPECT_EQ(first_largest(values), static_cast<std::int32_t>(at)) << size;
    }
  }
}

TEST(FirstLargest, IsTheFirstOfSeveral) {
  for (const std::size_t size : {3, 40, 1030, 5000}) {
    for (const std::size_t first : {std::size_t{0}, size / 2}) {
      std::vector<float> values(size, 0.0f);
      std::fill(values.begin() + static_cast<std::ptrdiff_t>(first), values.end(), 1.0f);
      EXPECT_EQ(first_largest(values), static_cast<std::int32_t>(first)) << size;
    }
  }
}

}  // namespace
}  // namespace refute
