#include "falsifiers/kv_cache_overflow_is_error.h"

#include <gtest/gtest.h>

#include "tests/falsifiers/synthetic_expectations.h"

namespace refute {
namespace {

TEST(KvCacheOverflowIsError, HoldsOnTheReference) {
  expect_held(kv_cache_overflow_is_error_info());
}

// A cache of float64 answers what a float16 cache cannot hold.
TEST(KvCacheOverflowIsError, RefutesAnAnswer) {
  expect_refuted(kv_cache_overflow_is_error_info(), *exact_oracle(), "finite_answers");
}

TEST(KvCacheOverflowIsError, RefutesATokenThatCountsAllTheSame) {
  SessionFaults faults;
  faults.loses_a_position = true;
  expect_faults_refuted(kv_cache_overflow_is_error_info(), faults, "finite_answers");
}

}  // namespace
}  // namespace refute
