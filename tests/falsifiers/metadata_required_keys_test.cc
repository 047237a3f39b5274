#include "falsifiers/metadata_required_keys.h"

#include <gtest/gtest.h>

#include "falsifiers/synthetic_model.h"
#include "tests/falsifiers/synthetic_expectations.h"

namespace refute {
namespace {

TEST(MetadataRequiredKeys, HoldsOnTheReference) { expect_held(metadata_required_keys_info()); }

// The loader is not a backend's, so its faults are seeded in the loader itself (F103); here, that
// the pieces which the claim rests on can fail.
TEST(MetadataRequiredKeys, ASyntheticFileWithoutAKeyLacksThatKeyAlone) {
  const auto file = SyntheticFile::make(synthetic_options(SyntheticShape::kNarrow, 1));
  ASSERT_TRUE(file);
  EXPECT_TRUE(file->load());
  const std::string key = gguf_key(ConfigKey::kRopeTheta);
  const auto without = file->without_key(key);
  ASSERT_TRUE(without);
  const auto model = without->load();
  ASSERT_FALSE(model);
  EXPECT_EQ(model.error().kind, ErrorKind::kMissingKey);
  EXPECT_FALSE(without->without_key(key));
  EXPECT_TRUE(file->without_key(gguf_key(ConfigKey::kVocabSize))->load());  // Optional.
}

TEST(MetadataRequiredKeys, RefutesABackendThatOpensNoSession) {
  class NoSession : public FaultySessionBackend {
   public:
    using FaultySessionBackend::FaultySessionBackend;
    Result<std::unique_ptr<Session>> open_session(const Model&, std::size_t) const override {
      return Error{ErrorKind::kMissingKey, "file", "a key", "none"};
    }
  };
  const auto cpu = cpu_backend();
  expect_refuted(metadata_required_keys_info(), NoSession(*cpu, {}), "");
}

}  // namespace
}  // namespace refute
