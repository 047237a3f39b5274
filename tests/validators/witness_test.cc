#include "validators/witness.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace refute {
namespace {

std::string model_path() { return std::string(REFUTE_TEST_DATA) + "/packs/nano.gguf"; }

// One forward pass and one op through a witness of `backend`.
void use(const Backend& backend, const Model& model, std::span<const std::int32_t> tokens,
         WitnessLog& log) {
  const auto witness = make_witness(backend, log);
  auto session = witness->open_session(model, 8);
  ASSERT_TRUE(session);
  ASSERT_TRUE((*session)->forward(tokens, {}));
  ASSERT_TRUE(witness->embed(model.embed_tokens(), tokens));
}

TEST(Witness, KeepsAccountOfOutputsAndLayersWithoutChangingThem) {
  auto model = Model::load(model_path());
  ASSERT_TRUE(model);
  const auto oracle = make_oracle_backend(ActivationScheme::kExact);
  const std::vector<std::int32_t> tokens = {1, 2, 3};
  WitnessLog first;
  WitnessLog again;
  use(*oracle, *model, tokens, first);
  use(*oracle, *model, tokens, again);
  EXPECT_EQ(first.outputs_sha256().size(), 64u);
  EXPECT_EQ(first.outputs_sha256(), again.outputs_sha256());
  EXPECT_EQ(first.executed(), (std::vector<std::string>{"oracle", "oracle"}));

  WitnessLog other;
  use(*oracle, *model, std::vector<std::int32_t>{1, 2, 4}, other);
  EXPECT_NE(first.outputs_sha256(), other.outputs_sha256());
}

TEST(Witness, SaysWhenCallsDisagreeAboutALayer) {
  WitnessLog log;
  EXPECT_EQ(log.outputs_sha256(), "");
  EXPECT_TRUE(log.executed().empty());
  log.saw_layers(std::vector<BackendId>{BackendId::kCpu, BackendId::kCpu});
  log.saw_layers(std::vector<BackendId>{BackendId::kCpu, BackendId::kOracle});
  EXPECT_EQ(log.executed(), (std::vector<std::string>{"cpu", "oracle+cpu"}));
}

}  // namespace
}  // namespace refute
