// The files of the public corpus that are copied to tests/data/corpus.
#include <gtest/gtest.h>

#include <string>

#include "tests/validators/corpus_verdicts.h"

namespace refute {
namespace {

TEST(Corpus, CopiedFilesHaveTheVerdictsOfTheTable) {
  const ValidateResult result = expect_corpus_verdicts(std::string(REFUTE_TEST_DATA) + "/corpus");
  EXPECT_EQ(result.files, 13U);
  EXPECT_EQ(result.total.bound, 0U);
  EXPECT_EQ(result.exit_code(), ExitCode::kRefutedOrInvalid);  // tensor-layout-v1.yaml.
}

TEST(Corpus, TableHasARowForEveryFileOfTheCorpus) { EXPECT_EQ(read_corpus_verdicts().size(), 97U); }

}  // namespace
}  // namespace refute
