#include "falsifiers/oracle_pack.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "engine/gguf.h"
#include "tests/falsifiers/pack_fixture.h"

namespace refute {
namespace {

TEST(OraclePack, HoldsEveryDocumentedTensorOfEveryPack) {
  for (const char* name : kPackNames) {
    const LoadedPack loaded(name);
    const Config& config = loaded.model.config();
    // 13 trace points a layer, and embedding, output_norm, logits.
    EXPECT_EQ(loaded.pack.tensors().size(), 13 * config.num_hidden_layers + 3) << name;
    const TraceTensor* logits = loaded.pack.find({TracePoint::kLogits, 0});
    ASSERT_NE(logits, nullptr) << name;
    EXPECT_EQ(logits->values.rows(), loaded.pack.tokens().size()) << name;
    EXPECT_EQ(logits->values.columns(), config.vocab_size) << name;
    EXPECT_EQ(loaded.pack.find({TracePoint::kQ, 0}), nullptr) << name;
  }
}

TEST(OraclePack, ReadsTheGreedyContinuationAndTheWindowsOfTheTrainedModel) {
  const LoadedPack loaded("kjv-moe-7m");
  ASSERT_TRUE(loaded.pack.greedy());
  EXPECT_EQ(loaded.pack.greedy()->tokens.size(), 96u);
  EXPECT_EQ(loaded.pack.greedy()->prompt_length, 32u);
  EXPECT_NEAR(loaded.pack.greedy()->smallest_margin, 0.019173, 1e-6);
  ASSERT_TRUE(loaded.pack.nll());
  ASSERT_EQ(loaded.pack.nll()->windows.size(), 4u);
  for (const auto& window : loaded.pack.nll()->windows) EXPECT_EQ(window.size(), 129u);
  EXPECT_NEAR(loaded.pack.nll()->mean_nll, 1.269251, 1e-6);
}

TEST(OraclePack, RandomPacksHoldNeitherContinuationNorWindows) {
  const LoadedPack loaded("nano");
  EXPECT_FALSE(loaded.pack.greedy());
  EXPECT_FALSE(loaded.pack.nll());
}

// One tensor of nano's pack as another file shall have it; an empty type drops it.
struct Edited {
  std::string name;
  TensorType type;
  std::vector<std::size_t> shape;
  std::vector<std::byte> data;
  bool dropped = false;
};

// Loads nano's pack with every tensor passed through `edit` first.
Result<OraclePack> load_edited(const std::function<void(Edited&)>& edit) {
  const GgufFile file = GgufFile::open(pack_path("nano", ".expected.gguf")).value();
  std::vector<Edited> tensors;
  for (const GgufTensor& tensor : file.tensors()) {
    Edited edited{tensor.name, tensor.type, tensor.shape, {tensor.data.begin(), tensor.data.end()}};
    edit(edited);
    if (!edited.dropped) tensors.push_back(std::move(edited));
  }
  GgufWriter writer;
  writer.add_value("general.architecture", std::string("expected"));
  for (const Edited& tensor : tensors) writer.add_tensor(tensor.name, tensor.type, tensor.shape);
  const std::filesystem::path path =
      std::filesystem::path(testing::TempDir()) /
      (std::string(testing::UnitTest::GetInstance()->current_test_info()->name()) +
       ".expected.gguf");
  EXPECT_TRUE(writer.begin(path));
  for (const Edited& tensor : tensors) EXPECT_TRUE(writer.append(tensor.data));
  EXPECT_TRUE(writer.finish());
  const Model model = load_model(pack_path("nano", ".gguf"));
  auto pack = OraclePack::load(path, model.config());
  std::filesystem::remove(path);
  return pack;
}

void expect_malformed(const Result<OraclePack>& pack, const std::string& text) {
  ASSERT_FALSE(pack);
  EXPECT_EQ(pack.error().kind, ErrorKind::kMalformed);
  EXPECT_NE(pack.error().message().find(text), std::string::npos) << pack.error().message();
}

TEST(OraclePack, AnUnchangedCopyLoads) {
  EXPECT_TRUE(load_edited([](Edited&) {}));
}

TEST(OraclePack, AMissingTensorIsNamed) {
  for (const char* name : {"tokens", "logits", "blk.1.moe_out", "blk.0.router_index"}) {
    expect_malformed(load_edited([&](Edited& tensor) { tensor.dropped = tensor.name == name; }),
                     name);
  }
}

TEST(OraclePack, AnUnknownTensorIsNamed) {
  for (const char* name : {"blk.2.moe_out", "moe_out", "blk.1.logits", "blk.x.v", "nll_window.x"}) {
    expect_malformed(load_edited([&](Edited& tensor) {
                       if (tensor.name == "blk.1.moe_out") tensor.name = name;
                     }),
                     name);
  }
}

TEST(OraclePack, AWrongShapeIsNamed) {
  expect_malformed(load_edited([](Edited& tensor) {
                     if (tensor.name == "blk.0.k_rope") tensor.shape = {4, 256};
                   }),
                   "expected F32 [8, 128], found F32 [4, 256]");
}

TEST(OraclePack, ANaNIsNamed) {
  expect_malformed(load_edited([](Edited& tensor) {
                     if (tensor.name != "blk.0.v") return;
                     const float value = std::numeric_limits<float>::quiet_NaN();
                     std::memcpy(tensor.data.data() + 40, &value, sizeof(value));
                   }),
                   "at element 10");
}

TEST(OraclePack, IdsOutsideOfTheModelAreNamed) {
  for (const auto& [name, limit] : {std::pair{"tokens", "256"}, {"blk.0.router_index", "4"}}) {
    expect_malformed(load_edited([&](Edited& tensor) {
                       if (tensor.name != name) return;
                       const std::int32_t value = 256;
                       std::memcpy(tensor.data.data(), &value, sizeof(value));
                     }),
                     std::string("below ") + limit);
  }
}

TEST(OraclePack, AContinuationWithoutItsMetadataIsNamed) {
  const auto pack = load_edited([](Edited& tensor) {
    if (tensor.name == "blk.0.v") tensor.name = "greedy_tokens";
    if (tensor.name != "greedy_tokens") return;
    tensor.type = TensorType::kI32;
    tensor.shape = {tensor.data.size() / 4};
    std::ranges::fill(tensor.data, std::byte{0});
  });
  ASSERT_FALSE(pack);
}

TEST(OraclePack, AMissingFileIsUnreadable) {
  const Model model = load_model(pack_path("nano", ".gguf"));
  const auto pack = OraclePack::load("no/such/file.gguf", model.config());
  ASSERT_FALSE(pack);
  EXPECT_EQ(pack.error().kind, ErrorKind::kUnreadable);
}

}  // namespace
}  // namespace refute
