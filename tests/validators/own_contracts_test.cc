// The contracts that ship with the project, through the real binary: what the README promises.
#include <gtest/gtest.h>

#include <chrono>
#include <random>
#include <string>

#include "engine/gguf.h"
#include "tests/validators/command_line.h"

namespace refute {
namespace {

const std::string kContracts = std::string(REFUTE_SOURCE_DIR) + "/contracts";

// The time limit is for the build that people use.
#ifdef NDEBUG
constexpr bool kOptimised = true;
#else
constexpr bool kOptimised = false;
#endif

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

std::string pack_path(const std::string& name) {
  return std::string(REFUTE_TEST_DATA) + "/packs/" + name;
}

double seconds_of(const std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

TEST(OwnContracts, AreValidWithEveryFalsifierCited) {
  const CommandLine cli;
  const CommandResult result = cli.run("validate " + kContracts);
  EXPECT_EQ(result.exit_code, 0) << result.out;
  EXPECT_TRUE(contains(result.out, "9 contracts: 0 errors, 0 warnings, 0 notes")) << result.out;
  EXPECT_TRUE(contains(result.out, "56 predictions: 56 bound, 0 prose only")) << result.out;
  EXPECT_TRUE(contains(result.out, "58 of 58 registered falsifiers are cited")) << result.out;
}

TEST(OwnContracts, HoldOnOracleAndCpuForTheEmbeddedModelAndShip) {
  const CommandLine cli;
  const auto start = std::chrono::steady_clock::now();
  const CommandResult result = cli.run("run " + kContracts + " --backend oracle,cpu");
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
  EXPECT_TRUE(contains(result.out, " 0 refuted, 0 not run")) << result.out;
  EXPECT_TRUE(contains(result.out, "Stays unverified:")) << result.out;
  const double seconds = seconds_of(start);
  EXPECT_TRUE(!kOptimised || seconds < 60.0) << "the default run takes " << seconds << " s";
  const CommandResult status = cli.run("status " + kContracts);
  EXPECT_EQ(status.exit_code, 0);
  EXPECT_TRUE(contains(status.out, "SHIPPED     M32d")) << status.out;
  // From the records in contracts/evidence, or STALE since a kernel changed; never without one.
  EXPECT_TRUE(contains(status.out, "SHIPPED     M-GPU-MOE-1.2") ||
              contains(status.out, "STALE       M-GPU-MOE-1.2"))
      << status.out;
  EXPECT_TRUE(contains(status.out, "Stays unverified")) << status.out;
  EXPECT_TRUE(status.out.ends_with("  - wgpu: 56 missing of its criteria\n")) << status.out;
}

TEST(OwnContracts, NameWhatAMachineWithoutAGpuDoesNotVerify) {
  const CommandLine cli;
  const CommandResult result =
      cli.run("run " + kContracts + "/qwen3-moe-forward-gpu-v1.yaml --no-record");
  EXPECT_EQ(result.exit_code, 5) << result.out << result.err;
  EXPECT_TRUE(contains(result.out, "FALSIFY-QW3-MOE-GPU-PARITY-001")) << result.out;
  EXPECT_TRUE(contains(result.out, "--backend cuda")) << result.out;
}

TEST(OwnContracts, RejectAHandTypedShippedForCudaParity) {
  const CommandLine cli;
  write_text(cli.folder() / "contracts/gpu.yaml",
             replaced(read_text(kContracts + "/qwen3-moe-forward-gpu-v1.yaml"),
                      "    title: Parity with the reference in every layer\n",
                      "    title: Parity with the reference in every layer\n"
                      "    status: SHIPPED\n"));
  const CommandResult result = cli.run("validate contracts/gpu.yaml");
  EXPECT_EQ(result.exit_code, 1) << result.out;
  EXPECT_TRUE(contains(result.out, "contracts/gpu.yaml:")) << result.out;
  EXPECT_TRUE(contains(result.out, "error[RF307]")) << result.out;
  EXPECT_TRUE(contains(result.out, "M-GPU-MOE-1.2")) << result.out;
}

class OwnContractsPack : public testing::TestWithParam<std::string> {};

TEST_P(OwnContractsPack, HoldOnOracleAndCpu) {
  const CommandLine cli;
  const std::string model = pack_path(GetParam() + ".gguf");
  const CommandResult result =
      cli.run("run " + kContracts + " --backend oracle,cpu --subject " + model);
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
  EXPECT_TRUE(contains(result.out, "expectations without greedy_tokens")) << result.out;
}

TEST_P(OwnContractsPack, RefuteAnyFlippedBitOfAUsedExpert) {
  const CommandLine cli;
  const std::string model_path = pack_path(GetParam() + ".gguf");
  const std::string expected_path = pack_path(GetParam() + ".expected.gguf");
  const auto model = GgufFile::open(model_path);
  const auto expected = GgufFile::open(expected_path);
  ASSERT_TRUE(model && expected);
  const std::string bytes = read_text(model_path);
  std::mt19937 random(20);
  for (const char* name : {"ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"}) {
    const std::string layer = "blk.1.";
    const GgufTensor* ids = expected->find_tensor(layer + "router_index");
    const GgufTensor* weight = model->find_tensor(layer + name + ".weight");
    ASSERT_TRUE(ids != nullptr && weight != nullptr);
    const auto expert = static_cast<std::size_t>(ids->data[4 * (random() % ids->num_elements())]);
    const std::size_t expert_bytes = weight->data.size() / weight->shape[0];
    const auto begin = static_cast<std::size_t>(weight->data.data() - model->bytes().data());
    std::string flipped = bytes;
    const std::size_t at = begin + expert * expert_bytes + random() % expert_bytes;
    flipped[at] = static_cast<char>(flipped[at] ^ (1 << (random() % 8)));
    write_text(cli.folder() / "flipped.gguf", flipped);
    const CommandResult result =
        cli.run("run " + kContracts + " --backend oracle --filter oracle_pack.trace_points " +
                "--no-record --subject flipped.gguf --expected " + expected_path);
    EXPECT_EQ(result.exit_code, 1) << name << " byte " << at << result.out << result.err;
    EXPECT_TRUE(contains(result.out, "blk.1.moe_out")) << result.out;
    EXPECT_TRUE(contains(result.out, "float32_ulps")) << result.out;
  }
}

INSTANTIATE_TEST_SUITE_P(Packs, OwnContractsPack, testing::Values("nano", "tiny", "gqa", "mixed"));

}  // namespace
}  // namespace refute
