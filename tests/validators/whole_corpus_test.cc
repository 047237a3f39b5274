// All 97 files of the public corpus, where it is at hand: a test program of its own, which fails
// without REFUTE_CORPUS_DIR. CMake registers it only where the folder exists, and says so.
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "tests/validators/corpus_verdicts.h"

namespace refute {
namespace {

TEST(WholeCorpus, HasTheVerdictsOfTheTable) {
  const char* folder = std::getenv("REFUTE_CORPUS_DIR");
  ASSERT_NE(folder, nullptr) << "set REFUTE_CORPUS_DIR to the folder of the corpus";
  const ValidateResult result = expect_corpus_verdicts(folder);
  EXPECT_EQ(result.files, 97U);
  EXPECT_EQ(result.total.predictions(), 518U);
  EXPECT_EQ(result.total.proof_obligations, 489U);
  EXPECT_EQ(result.errors, 1U);
}

}  // namespace
}  // namespace refute
