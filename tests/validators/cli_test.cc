// The real binary as people and scripts meet it: exit codes, and the lines that matter.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "tests/validators/command_line.h"

namespace refute {
namespace {

using nlohmann::json;

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(CommandLine, ValidatesAFolderAndStatesItsDenominators) {
  const CommandLine cli;
  cli.add_contract("router.yaml");
  cli.add_contract("pack.yaml");
  const CommandResult result = cli.run("validate");
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
  EXPECT_TRUE(contains(result.out, "2 contracts: 0 errors")) << result.out;
  EXPECT_TRUE(contains(result.out, "3 predictions: 3 bound, 0 prose only")) << result.out;
  EXPECT_FALSE(contains(result.out, "\x1b[")) << "colour although the output is no terminal";
}

TEST(CommandLine, NeverPassesOverNothing) {
  const CommandLine cli;
  std::filesystem::create_directories(cli.folder() / "empty");
  for (const char* command : {"validate", "run", "status"}) {
    EXPECT_EQ(cli.run(std::string(command) + " empty").exit_code, 4) << command;
    EXPECT_EQ(cli.run(std::string(command) + " missing").exit_code, 2) << command;
  }
  cli.add_contract("router.yaml");
  const CommandResult filtered = cli.run("run --filter FALSIFY-RNU-001");
  EXPECT_EQ(filtered.exit_code, 4);
  EXPECT_TRUE(contains(filtered.err, "did you mean `FALSIFY-RUN-001`")) << filtered.err;
}

TEST(CommandLine, TakesNoEmptyNameForTheDefault) {
  const CommandLine cli;
  cli.add_contract("router.yaml");
  for (const char* command :
       {"run --subject \"$NOT_SET\"", "generate --subject ''", "bench ''", "trace '' -o t.gguf"}) {
    const CommandResult result = cli.run(command);
    EXPECT_EQ(result.exit_code, 2) << command;
    EXPECT_TRUE(contains(result.err, "the name is empty")) << command << result.err;
  }
}

TEST(CommandLine, LosesNoResultWithoutAWord) {
  const CommandLine cli;
  cli.add_contract("router.yaml");
  const std::string lost = "cd '" + cli.folder().string() + "' && '" + REFUTE_BINARY +
                           "' list rules >/dev/full 2>err.txt";
  EXPECT_EQ(WEXITSTATUS(std::system(lost.c_str())), 2);
  EXPECT_TRUE(contains(read_text(cli.folder() / "err.txt"), "standard output"));
  // Before anything is run.
  write_text(cli.folder() / "file", "");
  const CommandResult kept = cli.run("run --backend oracle,cpu --record file");
  EXPECT_EQ(kept.exit_code, 2);
  EXPECT_TRUE(contains(kept.err, "file: expected a place that can be written")) << kept.err;
}

TEST(CommandLine, ReplacesNothingButARegularFile) {
  const CommandLine cli;
  std::filesystem::create_directory(cli.folder() / "folder");
  const int made = std::system(("mkfifo '" + (cli.folder() / "pipe").string() + "'").c_str());
  ASSERT_EQ(made, 0);
  for (const char* name : {"folder", "pipe"}) {
    for (const std::string command : {"trace --force -o ", "synth --preset nano --force "}) {
      const CommandResult result = cli.run(command + name);
      EXPECT_EQ(result.exit_code, 2) << command << name;
      EXPECT_TRUE(contains(result.err, "expected a regular file")) << result.err;
    }
  }
  EXPECT_TRUE(std::filesystem::is_fifo(cli.folder() / "pipe"));
}

TEST(CommandLine, RejectsAClaimAboveTheRecordsWithItsPlace) {
  const CommandLine cli;
  cli.add_contract("claims_shipped.yaml");
  const CommandResult result = cli.run("validate contracts/claims_shipped.yaml");
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_TRUE(contains(result.out, "contracts/claims_shipped.yaml:10:13: error[RF")) << result.out;
  EXPECT_TRUE(contains(result.out, "claims SHIPPED")) << result.out;
}

TEST(CommandLine, RejectsAClaimWhereverItStands) {
  for (const char* block : {"metadata:\n  status: SHIPPED\n",
                            "proof_obligations:\n  - property: p\n    status: DISCHARGED\n"}) {
    const CommandLine cli;
    cli.add_contract("router.yaml");
    const auto path = cli.folder() / "contracts/router.yaml";
    EXPECT_EQ(cli.run("validate").exit_code, 0);
    write_text(path, block + read_text(path));
    const CommandResult result = cli.run("validate");
    EXPECT_EQ(result.exit_code, 1) << result.out;
    EXPECT_TRUE(contains(result.out, "error[RF307]: a status outside of the stages claims"))
        << result.out;
  }
}

TEST(CommandLine, RefusesToRunAnInvalidContract) {
  const CommandLine cli;
  write_text(cli.folder() / "contracts/bad.yaml", "id: bad-v1\nversoin: 1.0.0\n");
  const CommandResult result = cli.run("run");
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_TRUE(contains(result.err, "contracts/bad.yaml:2:1: error")) << result.err;
  EXPECT_TRUE(contains(result.err, "nothing was run")) << result.err;
}

TEST(CommandLine, RunsWhatIsRequiredAndSaysWhatStaysUnverified) {
  const CommandLine cli;
  cli.add_contract("router.yaml");
  cli.add_contract("pack.yaml");
  const CommandResult result = cli.run("run --backend oracle,cpu");
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
  EXPECT_TRUE(contains(result.out, "5 of 6 criteria held, 0 refuted, 0 not run, 1 waived (wgpu 1)"))
      << result.out;
  EXPECT_TRUE(contains(result.out, "Stays unverified:\n  - 1 criterion left out by --backend"))
      << result.out;
  EXPECT_TRUE(contains(result.out, "Record: .refute/records/")) << result.out;
}

TEST(CommandLine, ExitsWithFiveNamingWhatWasNotRunAndTheCommandForIt) {
  const CommandLine cli;
  cli.add_contract("router.yaml");
  const CommandResult result = cli.run("run --no-record");
  EXPECT_EQ(result.exit_code, 5) << result.out << result.err;
  EXPECT_TRUE(contains(result.out,
                       "FALSIFY-RUN-002 on wgpu: this build has no wgpu backend\n"
                       "    refute run contracts/router.yaml --filter FALSIFY-RUN-002 "
                       "--backend wgpu"))
      << result.out;
  EXPECT_TRUE(contains(result.out, "1 not run (wgpu 1)")) << result.out;
  EXPECT_FALSE(std::filesystem::exists(cli.folder() / ".refute"));
}

TEST(CommandLine, NeedsExpectationsUnlessTheyAreWaived) {
  const CommandLine cli;
  cli.add_contract("pack.yaml");
  cli.add_contract("router.yaml");
  const std::string model = std::string(REFUTE_TEST_DATA) + "/packs/nano.gguf";
  std::filesystem::copy_file(model, cli.folder() / "alone.gguf");
  const CommandResult without = cli.run("run --subject alone.gguf --backend oracle --no-record");
  EXPECT_EQ(without.exit_code, 5);
  EXPECT_TRUE(contains(without.out, "no expectations: give --expected FILE")) << without.out;
  const CommandResult waived =
      cli.run("run --subject alone.gguf --backend oracle --expected none --no-record");
  EXPECT_EQ(waived.exit_code, 0) << waived.out;
  EXPECT_TRUE(contains(waived.out, "left out by --expected none")) << waived.out;
  const CommandResult beside = cli.run("run --backend oracle --no-record --subject " + model);
  EXPECT_EQ(beside.exit_code, 0) << beside.out;
  EXPECT_TRUE(contains(beside.out, "nano.expected.gguf (found beside the model)")) << beside.out;
}

TEST(CommandLine, RejectsWrongUsage) {
  const CommandLine cli;
  cli.add_contract("router.yaml");
  for (const char* arguments : {"",
                                "frobnicate",
                                "run --backend gpu",
                                "run --cases 0",
                                "run --cases x",
                                "run --unknown",
                                "run --partition hash:3/2",
                                "run --replay nonsense",
                                "run --format xml",
                                "run --format json --format human",
                                "status --require HELD",
                                "list nothing",
                                "generate",
                                "generate --prompt a --tokens 1",
                                "generate --prompt a --attention tensor",
                                "generate --prompt a --attention x",
                                "synth",
                                "explain",
                                "explain RF",
                                "run --subject missing.gguf",
                                "validate --format json=missing/folder/x.json"}) {
    const CommandResult result = cli.run(arguments);
    EXPECT_EQ(result.exit_code, 2) << arguments << "\n" << result.out << result.err;
    EXPECT_TRUE(contains(result.err, "refute: ")) << arguments << "\n" << result.err;
  }
  EXPECT_TRUE(contains(cli.run("valdate").err, "did you mean `validate`?"));
}

TEST(CommandLine, EndsARunThatTakesTooLongOrIsInterrupted) {
  const CommandLine cli;
  cli.add_contract("router.yaml");
  const CommandResult late = cli.run("run --backend oracle --cases 1000000 --timeout 0.01");
  EXPECT_EQ(late.exit_code, 3);
  EXPECT_TRUE(
      contains(late.err, "FALSIFY-RUN-001 (router.weights_sum_to_one) on oracle took longer"))
      << late.err;
  const CommandResult interrupted =
      cli.run("run --backend oracle --cases 1000000", "timeout --preserve-status --signal=INT 0.2");
  EXPECT_EQ(interrupted.exit_code, 130) << interrupted.out << interrupted.err;
  EXPECT_FALSE(std::filesystem::exists(cli.folder() / ".refute"));
}

TEST(CommandLine, WritesSeveralFormatsAtOnce) {
  const CommandLine cli;
  cli.add_contract("router.yaml");
  const CommandResult run = cli.run(
      "run --no-record --format human --format json=run.json --format jsonl=run.jsonl "
      "--format markdown=run.md --format github=run.txt");
  EXPECT_EQ(run.exit_code, 5) << run.err;
  const json report = json::parse(read_text(cli.folder() / "run.json"), nullptr, false);
  ASSERT_FALSE(report.is_discarded());
  EXPECT_EQ(report["criteria"]["total"], 5);
  EXPECT_EQ(report["criteria"]["held"], 4);
  EXPECT_EQ(report["results"].size(), 5U);
  EXPECT_EQ(report["exit_code"], 5);
  EXPECT_TRUE(contains(read_text(cli.folder() / "run.md"), "| held | FALSIFY-RUN-001 | oracle |"));
  EXPECT_TRUE(
      contains(read_text(cli.folder() / "run.txt"), "::warning file=contracts/router.yaml,line="));
  EXPECT_GT(report["cases"]["run"].get<std::size_t>(), 0u);
  EXPECT_GT(report["cases"]["per_second"].get<double>(), 0.0);
  EXPECT_TRUE(contains(run.out, " cases, "));
  EXPECT_TRUE(contains(read_text(cli.folder() / "run.jsonl"), "\"summary\":true"));
  for (const char* command :
       {"validate", "status", "list rules", "list stages", "explain F22", "doctor", "schema"}) {
    const bool plain = std::string(command) == "schema";
    const CommandResult result = cli.run(std::string(command) + (plain ? "" : " --format json"));
    EXPECT_EQ(result.exit_code, 0) << command << result.err;
    EXPECT_FALSE(json::parse(result.out, nullptr, false).is_discarded()) << command;
  }
}

TEST(CommandLine, SaysItsVersionAndBuild) {
  const CommandLine cli;
  const CommandResult version = cli.run("--version");
  EXPECT_EQ(version.exit_code, 0);
  EXPECT_TRUE(contains(version.out, "refute 0.")) << version.out;
  EXPECT_TRUE(contains(version.out, "(tree ")) << version.out;
  for (const char* command : {"", "validate", "run", "status", "trace", "compare", "bench",
                              "generate", "synth", "explain", "list", "doctor", "schema"}) {
    const CommandResult help = cli.run(std::string(command) + " --help");
    EXPECT_EQ(help.exit_code, 0) << command;
    EXPECT_TRUE(contains(help.out, "Example")) << command;
  }
}

// The first new token comes from the prompt: with no other there is no rate of decoding.
TEST(CommandLine, GenerateGivesRatesOfWhatWasTimed) {
  const CommandLine cli;
  const CommandResult one = cli.run("generate --tokens 1,2,3 -n 1 --ignore-eos");
  EXPECT_EQ(one.exit_code, 0) << one.err;
  EXPECT_TRUE(contains(one.err, "prompt 3 tokens at ")) << one.err;
  EXPECT_TRUE(contains(one.err, ", 1 new\n")) << one.err;
  const CommandResult two = cli.run("generate --tokens 1,2,3 -n 2 --ignore-eos");
  EXPECT_EQ(two.exit_code, 0) << two.err;
  EXPECT_TRUE(contains(two.err, ", 2 new at ")) << two.err;
  const CommandResult machine = cli.run("generate --tokens 1,2,3 -n 1 --ignore-eos --format json");
  EXPECT_TRUE(contains(machine.out, "\"decode_tokens_per_second\": null")) << machine.out;
}

TEST(CommandLine, ExplainsIdsOfEveryKind) {
  const CommandLine cli;
  cli.add_contract("router.yaml");
  for (const auto& [id, kind] : {std::pair{"RF307", "rule"},
                                 {"router.weights_sum_to_one", "falsifier"},
                                 {"F22", "fault"},
                                 {"RUN-ROUTER-1", "stage"},
                                 {"AC_RUN_001", "acceptance"},
                                 {"FALSIFY-RUN-001", "criterion"},
                                 {"run-router-v1", "contract"},
                                 {"stale", "status"},
                                 {"gave_up", "verdict"},
                                 {"cpu", "backend"},
                                 {"q4_k", "type"},
                                 {"5", "exit-code"}}) {
    const CommandResult result = cli.run(std::string("explain ") + id);
    EXPECT_EQ(result.exit_code, 0) << id;
    EXPECT_TRUE(contains(result.out, kind)) << result.out;
  }
  EXPECT_TRUE(contains(cli.run("explain router.weights_sum_to_on").err, "did you mean"));
}

}  // namespace
}  // namespace refute
