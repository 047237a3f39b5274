// The line from a model to a status, through the real binary: runs that refute, records that are
// written, kept, edited and gone stale, and the text that a model generates.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "engine/gguf.h"
#include "engine/model.h"
#include "falsifiers/oracle_pack.h"
#include "tests/validators/command_line.h"

namespace refute {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

std::string pack_path(const std::string& name) {
  return std::string(REFUTE_TEST_DATA) + "/packs/" + name;
}

// The offset of a byte of quants of an expert that the pack's tokens use in layer 1.
std::size_t used_byte_offset(const std::string& model_path, const std::string& expected_path) {
  const Result<GgufFile> model = GgufFile::open(model_path);
  const Result<GgufFile> expected = GgufFile::open(expected_path);
  EXPECT_TRUE(model && expected);
  const GgufTensor* ids = expected->find_tensor("blk.1.router_index");
  const GgufTensor* down = model->find_tensor("blk.1.ffn_down_exps.weight");
  EXPECT_TRUE(ids != nullptr && down != nullptr);
  const auto expert = static_cast<std::size_t>(ids->data[0]);
  const std::size_t expert_bytes = down->data.size() / down->shape[0];
  const auto begin = static_cast<std::size_t>(down->data.data() - model->bytes().data());
  return begin + expert * expert_bytes + 20;
}

TEST(Evidence, OneFlippedBitIsRefutedNamingLayerTracePointAndMetric) {
  const CommandLine cli;
  cli.add_contract("pack.yaml");
  std::string bytes = read_text(pack_path("nano.gguf"));
  const std::size_t at = used_byte_offset(pack_path("nano.gguf"), pack_path("nano.expected.gguf"));
  bytes[at] = static_cast<char>(bytes[at] ^ 0x08);
  write_text(cli.folder() / "flipped.gguf", bytes);
  const std::string run =
      "run --subject flipped.gguf --expected " + pack_path("nano.expected.gguf");
  const CommandResult result = cli.run(run);
  EXPECT_EQ(result.exit_code, 1) << result.out << result.err;
  EXPECT_TRUE(contains(result.out, "REFUTED")) << result.out;
  EXPECT_TRUE(contains(result.out, "blk.1.moe_out")) << result.out;
  EXPECT_TRUE(contains(result.out, "float32_ulps") || contains(result.out, "relative_l2"))
      << result.out;
  EXPECT_TRUE(contains(result.out, "The first stage that the reason names.")) << result.out;
  // The record of it says nothing about the embedded model.
  const CommandResult status = cli.run("status");
  EXPECT_TRUE(contains(status.out, "PENDING     RUN-PACK-1")) << status.out;
  EXPECT_TRUE(contains(status.out, "FALSIFY-RUN-PACK on oracle: refuted for the model"))
      << status.out;
}

TEST(Evidence, ATruncatedModelIsUnreadableWhereverItEnds) {
  const CommandLine cli;
  cli.add_contract("router.yaml");
  const std::string bytes = read_text(pack_path("nano.gguf"));
  for (const std::size_t length :
       {std::size_t{0}, std::size_t{3}, std::size_t{100}, bytes.size() / 2, bytes.size() - 1}) {
    write_text(cli.folder() / "short.gguf", bytes.substr(0, length));
    const CommandResult result = cli.run("run --subject short.gguf --backend cpu");
    EXPECT_EQ(result.exit_code, 2) << length << result.out;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_TRUE(contains(result.err, "short.gguf")) << result.err;
  }
}

TEST(Evidence, StatusFollowsTheRecords) {
  const CommandLine cli;
  cli.add_contract("router.yaml");
  const std::string contract = read_text(cli.folder() / "contracts/router.yaml");
  EXPECT_TRUE(contains(cli.run("status").out, "PENDING     RUN-ROUTER-1"));
  ASSERT_EQ(cli.run("run --backend oracle,cpu").exit_code, 0);
  const CommandResult after = cli.run("status");
  EXPECT_EQ(after.exit_code, 0) << after.err;
  EXPECT_TRUE(contains(after.out, "SHIPPED     RUN-ROUTER-1  4/4 held")) << after.out;
  EXPECT_TRUE(contains(after.out, "PENDING     RUN-ROUTER-2")) << after.out;
  EXPECT_TRUE(contains(after.out, "3 stages: 2 SHIPPED")) << after.out;
  EXPECT_EQ(cli.run("status --require DISCHARGED").exit_code, 5);
  // What the records show may be claimed, and no more.
  const std::string title = "    title: The router on the oracle and the CPU\n";
  write_text(cli.folder() / "contracts/router.yaml",
             replaced(contract, title, title + "    status: SHIPPED\n"));
  EXPECT_EQ(cli.run("validate").exit_code, 1) << "the claim itself makes the records stale";
  ASSERT_EQ(cli.run("run --backend oracle,cpu").exit_code, 0);
  const CommandResult claimed = cli.run("validate");
  EXPECT_EQ(claimed.exit_code, 0) << claimed.out;
  // Any edit of the contract makes its records stale.
  write_text(cli.folder() / "contracts/router.yaml", contract + "# A remark.\n");
  const CommandResult edited = cli.run("status");
  EXPECT_TRUE(contains(edited.out, "STALE       RUN-ROUTER-1")) << edited.out;
  EXPECT_TRUE(contains(edited.out, "the contract file has changed")) << edited.out;
  // With the contract as it was, the first record counts again.
  write_text(cli.folder() / "contracts/router.yaml", contract);
  EXPECT_TRUE(contains(cli.run("status").out, "SHIPPED     RUN-ROUTER-1"));
}

TEST(Evidence, AnEditedRecordIsReportedAndCountsForNothing) {
  const CommandLine cli;
  cli.add_contract("router.yaml");
  ASSERT_EQ(cli.run("run --backend oracle,cpu").exit_code, 0);
  const auto entry = *fs::directory_iterator(cli.folder() / ".refute/records");
  write_text(entry.path(), replaced(read_text(entry.path()), "\"run\": 20", "\"run\": 21"));
  const CommandResult status = cli.run("status");
  EXPECT_TRUE(contains(status.out, "ignored record: ")) << status.out;
  EXPECT_TRUE(contains(status.out, "changed after it was written")) << status.out;
  EXPECT_TRUE(contains(status.out, "PENDING     RUN-ROUTER-1")) << status.out;
  EXPECT_TRUE(contains(status.out, "0 records read, 1 ignored")) << status.out;
}

TEST(Evidence, CommittedRecordsBesideTheContractsCount) {
  const CommandLine cli;
  cli.add_contract("router.yaml");
  ASSERT_EQ(cli.run("run --backend oracle,cpu --record contracts/evidence").exit_code, 0);
  EXPECT_TRUE(contains(cli.run("status contracts/router.yaml").out, "SHIPPED     RUN-ROUTER-1"));
  fs::create_directory(cli.folder() / "elsewhere");
  EXPECT_TRUE(
      contains(cli.run("status contracts --records elsewhere").out, "PENDING     RUN-ROUTER-1"));
}

TEST(Evidence, AFolderOfRecordsThatIsNotThereIsAnError) {
  const CommandLine cli;
  cli.add_contract("router.yaml");
  write_text(cli.folder() / "file.json", "{}");
  for (const char* command : {"status", "validate"}) {
    for (const char* records : {"nowhere", "file.json"}) {
      const CommandResult result =
          cli.run(std::string(command) + " contracts --records " + records);
      EXPECT_EQ(result.exit_code, 2) << command << " " << records;
      EXPECT_TRUE(contains(result.err, records)) << result.err;
    }
  }
}

TEST(Evidence, PrintedCommandsCanBePasted) {
  const CommandLine cli;
  cli.add_contract("router.yaml");
  fs::rename(cli.folder() / "contracts", cli.folder() / "my $(contracts)");
  const CommandResult status = cli.run("status 'my $(contracts)'");
  EXPECT_TRUE(contains(status.out, "refute run 'my $(contracts)/router.yaml' --filter "))
      << status.out;
}

TEST(Evidence, FewerCasesThanTheContractAsksForAreNoEvidence) {
  const CommandLine cli;
  cli.add_contract("router.yaml");
  ASSERT_EQ(cli.run("run --backend oracle,cpu --cases 5").exit_code, 0);
  EXPECT_TRUE(contains(cli.run("status").out, "STALE       RUN-ROUTER-1"));
}

TEST(Generate, ContinuesTheEmbeddedModelAsItsExpectationsSay) {
  const CommandLine cli;
  const std::string base = std::string(REFUTE_SOURCE_DIR) + "/contracts/subjects/kjv-moe-7m";
  const Result<Model> model = Model::load(base + ".gguf", 1);
  ASSERT_TRUE(model);
  const Result<OraclePack> pack = OraclePack::load(base + ".expected.gguf", model->config());
  ASSERT_TRUE(pack && pack->greedy());
  const GreedyExpectation& greedy = *pack->greedy();
  std::string prompt;
  for (std::size_t i = 0; i < greedy.prompt_length; ++i) {
    prompt += (i == 0 ? "" : ",") + std::to_string(greedy.tokens[i]);
  }
  const std::vector<std::int32_t> expected(
      greedy.tokens.begin() + static_cast<std::ptrdiff_t>(greedy.prompt_length),
      greedy.tokens.end());
  const CommandResult result =
      cli.run("generate --backend oracle --format json --ignore-eos --tokens " + prompt + " -n " +
              std::to_string(expected.size()));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const json report = json::parse(result.out, nullptr, false);
  ASSERT_FALSE(report.is_discarded()) << result.out;
  EXPECT_EQ(report["tokens"].get<std::vector<std::int32_t>>(), expected);
  EXPECT_TRUE(contains(result.err, "tokens/s")) << result.err;
}

TEST(Generate, SamplesTheSameTextFromTheSameSeed) {
  const CommandLine cli;
  const std::string arguments =
      "generate --prompt 'And God said' -n 24 --temperature 0.8 --top-k 40 --seed ";
  const CommandResult first = cli.run(arguments + "7");
  EXPECT_EQ(first.exit_code, 0) << first.err;
  EXPECT_TRUE(first.out.starts_with("And God said")) << first.out;
  EXPECT_EQ(first.out, cli.run(arguments + "7").out);
  EXPECT_NE(first.out, cli.run(arguments + "8").out);
  EXPECT_EQ(cli.run("generate --tokens 1000000").exit_code, 2);
}

TEST(Synth, WritesAModelThatGeneratesAndIsNotOverwritten) {
  const CommandLine cli;
  ASSERT_EQ(cli.run("synth small.gguf --preset nano --layers 1 --type down_proj=Q8_0").exit_code,
            0);
  const CommandResult generated = cli.run("generate --subject small.gguf --tokens 1,2,3 -n 4");
  EXPECT_EQ(generated.exit_code, 0) << generated.err;
  EXPECT_EQ(cli.run("synth small.gguf --preset nano").exit_code, 2);
  EXPECT_EQ(cli.run("synth small.gguf --preset nano --force").exit_code, 0);
  EXPECT_EQ(cli.run("synth other.gguf --preset nanno").exit_code, 2);
  EXPECT_EQ(cli.run("synth other.gguf --type down_proj=Q9").exit_code, 2);
  EXPECT_FALSE(fs::exists(cli.folder() / "other.gguf"));
}

}  // namespace
}  // namespace refute
