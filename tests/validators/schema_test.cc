#include "validators/schema.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "validators/contract_keys.h"
#include "validators/source_file.h"

namespace refute {
namespace {

TEST(Schema, CommittedFileEqualsTheExport) {
  const Result<SourceFile> file =
      load_source(std::string(REFUTE_SOURCE_DIR) + "/contracts/schema/contract.schema.json");
  ASSERT_TRUE(file.has_value());
  EXPECT_EQ(file->text(), contract_schema());
}

TEST(Schema, NamesEveryKeyOfTheReader) {
  const nlohmann::json schema = nlohmann::json::parse(contract_schema());
  const auto expect_keys = [](const nlohmann::json& block, std::span<const KeyInfo> keys) {
    EXPECT_EQ(block["additionalProperties"], false);
    std::size_t required = 0;
    for (const KeyInfo& key : keys) {
      EXPECT_TRUE(block["properties"].contains(key.name)) << key.name;
      if (key.required) ++required;
    }
    EXPECT_EQ(block["required"].size(), required);
  };
  expect_keys(schema, contract_keys());
  expect_keys(schema["$defs"]["stage"], stage_keys());
  expect_keys(schema["$defs"]["acceptance"], acceptance_keys());
  expect_keys(schema["$defs"]["falsifier"], falsifier_keys());
  for (const std::string_view key : dialect_keys()) {
    EXPECT_TRUE(schema["properties"].contains(key)) << key;
  }
}

}  // namespace
}  // namespace refute
