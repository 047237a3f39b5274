// CHECK aborts, in every build type, when a caller inside the project broke a precondition.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace refute::internal {

[[noreturn]] inline void check_failed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "%s:%d: CHECK failed: %s\n", file, line, condition);
  std::abort();
}

}  // namespace refute::internal

#define CHECK(condition) \
  ((condition) ? (void)0 : ::refute::internal::check_failed(#condition, __FILE__, __LINE__))
