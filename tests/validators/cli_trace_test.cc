// `refute trace` and `refute compare` as people and scripts meet them.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "engine/trace_file.h"
#include "tests/validators/command_line.h"

namespace refute {
namespace {

using nlohmann::json;

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

std::string pack(const std::string& name) {
  return "'" + std::string(REFUTE_TEST_DATA) + "/packs/" + name + "'";
}

TEST(TraceCommand, RecordsEveryPointDownToTheExperts) {
  const CommandLine cli;
  const CommandResult result = cli.run("trace --output run.gguf");
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_TRUE(contains(result.out, "kjv-moe-7m (embedded), cpu (")) << result.out;
  EXPECT_TRUE(contains(result.out, "run.gguf: 87 trace points")) << result.out;
  const auto trace = read_trace_file(cli.folder() / "run.gguf");
  ASSERT_TRUE(trace) << trace.error().message();
  EXPECT_EQ(trace->tensors.size(), 3U + 4U * 21U);
  for (const char* point : {"expert_gate", "expert_up", "expert_swiglu", "expert_out"}) {
    EXPECT_TRUE(contains(result.out, "blk.3." + std::string(point))) << point;
  }
  EXPECT_EQ(trace->origin.backend, "cpu");
  EXPECT_EQ(trace->origin.model_sha256.size(), 64U);
}

TEST(TraceCommand, KeepsWhatIsSelectedAndSummarisesItAsJson) {
  const CommandLine cli;
  const CommandResult result = cli.run("trace " + pack("nano.gguf") +
                                       " --backend oracle --prompt-length 5 --seed 3 "
                                       "--point 'expert_*' --layer 1 -o run.gguf --format json");
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const json report = json::parse(result.out);
  ASSERT_EQ(report["sites"].size(), 4U);
  const json& site = report["sites"][3];
  EXPECT_EQ(site["site"], "blk.1.expert_out");
  EXPECT_EQ(site["shape"], (json{10, 256}));
  EXPECT_EQ(site["type"], "float64");
  EXPECT_EQ(site["num_tokens"], 5);
  EXPECT_EQ(site["non_finite"], 0);
  EXPECT_GT(site["rms"].get<double>(), 0.0);
  EXPECT_LT(site["min"].get<double>(), site["max"].get<double>());
  EXPECT_EQ(report["tokens"].size(), 5U);
  EXPECT_TRUE(report["error"].is_null());
}

TEST(TraceCommand, RecordsTheSameInChunksAndWithGivenTokens) {
  const CommandLine cli;
  const std::string model = "trace " + pack("nano.gguf") + " --tokens 7,1,200,9,9 ";
  ASSERT_EQ(cli.run(model + "-o whole.gguf").exit_code, 0);
  ASSERT_EQ(cli.run(model + "--chunk 2 --threads 1 -o chunks.gguf").exit_code, 0);
  const CommandResult result = cli.run("compare whole.gguf chunks.gguf");
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
  EXPECT_TRUE(contains(result.out, "No chained divergence: 45 of 45 trace points equal"))
      << result.out;
}

TEST(TraceCommand, SaysWhatIsWrong) {
  const CommandLine cli;
  const std::string nano = "trace " + pack("nano.gguf") + " -o x.gguf ";
  const std::pair<std::string, std::string> cases[] = {
      {nano + "--point expert_gat", "did you mean `expert_gate`?"},
      {nano + "--point 'blk.7.*'", "a trace point"},
      {nano + "--layer 2", "0 to 1"},
      {nano + "--layer 1-0", "0 to 1"},
      {nano + "--backend cpuu", "did you mean `cpu`?"},
      {nano + "--backend emulated", "oracle-emulated"},
      {nano + "--tokens 256", "InvalidToken"},
      {nano + "--tokens 1 --prompt-length 4", "excludes"},
      {nano + "--prompt-length 100000", "ContextFull"},
      {nano + "--routes missing.gguf", "missing.gguf"},
      {nano + "--routes " + pack("tiny.expected.gguf"), "the tokens of this run"},
      {"trace missing.gguf -o x.gguf", "missing.gguf"},
      {"trace " + pack("nano.gguf"), "--output"},
      {nano.substr(0, nano.find("-o")) + "-o missing/x.gguf", "missing/x.gguf"},
  };
  for (const auto& [arguments, message] : cases) {
    const CommandResult result = cli.run(arguments);
    EXPECT_EQ(result.exit_code, 2) << arguments << result.out;
    EXPECT_TRUE(contains(result.err, message)) << arguments << "\n" << result.err;
    EXPECT_FALSE(std::filesystem::exists(cli.folder() / "x.gguf")) << arguments;
  }
  const CommandResult missing = cli.run(nano + "--backend wgpu");
  EXPECT_EQ(missing.exit_code, 5);
  EXPECT_TRUE(contains(missing.err, "wgpu")) << missing.err;
}

TEST(TraceCommand, ReplacesAFileOnlyWhenTold) {
  const CommandLine cli;
  const std::string command = "trace " + pack("nano.gguf") + " -o run.gguf --point logits";
  EXPECT_EQ(cli.run(command).exit_code, 0);
  const CommandResult again = cli.run(command);
  EXPECT_EQ(again.exit_code, 2);
  EXPECT_TRUE(contains(again.err, "--force")) << again.err;
  EXPECT_EQ(cli.run(command + " --force").exit_code, 0);
}

TEST(CompareCommand, HoldsTheCpuAgainstTheOracleChainedAndLocal) {
  const CommandLine cli;
  ASSERT_EQ(cli.run("trace --backend oracle -o oracle.gguf").exit_code, 0);
  ASSERT_EQ(cli.run("trace --routes oracle.gguf -o cpu.gguf").exit_code, 0);
  const CommandResult result = cli.run("compare oracle.gguf cpu.gguf --local");
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
  for (const char* part : {"Chained errors", "Local errors", "class C", "layer         0 1 2 3",
                           "router_index", "expert_swiglu", "No chained divergence",
                           "No local divergence", "routes forced by oracle", "= every bit equal"}) {
    EXPECT_TRUE(contains(result.out, part)) << part << "\n" << result.out;
  }
  EXPECT_FALSE(contains(result.out, "\x1b[")) << "colour although the output is no terminal";
  const CommandResult as_json = cli.run("compare oracle.gguf cpu.gguf --local --format json");
  const json report = json::parse(as_json.out);
  EXPECT_EQ(report["exit_code"], 0);
  EXPECT_EQ(report["chained"]["class"], "C");
  EXPECT_EQ(report["chained"]["compared"], 87);
  EXPECT_TRUE(report["chained"]["first_divergence"].is_null());
  EXPECT_EQ(report["local"]["sites"].size(), 87U);
  const json& logits = report["chained"]["sites"][86];
  EXPECT_EQ(logits["site"], "logits");
  EXPECT_GT(logits["relative_l2"].get<double>(), 0.0);
  EXPECT_GT(logits["worst_row_cosine"].get<double>(), 0.99);
  EXPECT_GT(logits["differing_bits"].get<int>(), 0);
}

TEST(CompareCommand, NamesTheFirstDivergenceAndExitsWithOne) {
  const CommandLine cli;
  ASSERT_EQ(cli.run("trace " + pack("nano.gguf") + " -o one.gguf").exit_code, 0);
  auto trace = read_trace_file(cli.folder() / "one.gguf").value();
  for (const TraceSite site : {TraceSite{TracePoint::kMoeOut, 0}, {TracePoint::kLogits, 0}}) {
    trace.tensors.at(site).values(2, 9) *= 1.5;
  }
  ASSERT_TRUE(write_trace_file(trace, cli.folder() / "two.gguf"));
  const CommandResult result = cli.run("compare one.gguf two.gguf");
  EXPECT_EQ(result.exit_code, 1) << result.out;
  EXPECT_TRUE(contains(result.out, "First chained divergence: blk.0.moe_out: differing_elements"))
      << result.out;
  const json report = json::parse(cli.run("compare one.gguf two.gguf --format json").out);
  EXPECT_EQ(report["chained"]["first_divergence"]["site"], "blk.0.moe_out");
  EXPECT_EQ(report["exit_code"], 1);
}

TEST(CompareCommand, ComparesWithExpectations) {
  const CommandLine cli;
  ASSERT_EQ(cli.run("trace " + pack("nano.gguf") + " --backend oracle -o o.gguf").exit_code, 0);
  const CommandResult result = cli.run("compare " + pack("nano.expected.gguf") + " o.gguf");
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
  EXPECT_TRUE(contains(result.out, "class A")) << result.out;
}

TEST(CompareCommand, RefusesFilesThatAreNotTheSameRun) {
  const CommandLine cli;
  const std::string nano = "trace " + pack("nano.gguf");
  ASSERT_EQ(cli.run(nano + " -o a.gguf").exit_code, 0);
  ASSERT_EQ(cli.run(nano + " --prompt-length 8 --seed 9 -o b.gguf").exit_code, 0);
  ASSERT_EQ(cli.run("trace " + pack("tiny.gguf") + " -o c.gguf").exit_code, 0);
  ASSERT_EQ(cli.run(nano + " --point logits -o d.gguf").exit_code, 0);
  ASSERT_EQ(cli.run(nano + " --point embedding -o e.gguf").exit_code, 0);
  const std::pair<std::string, std::string> cases[] = {
      {"a.gguf b.gguf", "not the same run, token 0"},
      {"a.gguf c.gguf", "not the same run, model"},
      {"a.gguf ./a.gguf", "compared with itself"},
      {"a.gguf missing.gguf", "missing.gguf"},
      {"a.gguf " + pack("nano.gguf"), "a model"},
      {"a.gguf", "required"},
      {"a.gguf d.gguf --local", "give it with --model"},
      {"a.gguf d.gguf --backend cpu", "--local"},
      {"a.gguf d.gguf --local --backend orcale --model " + pack("nano.gguf"),
       "did you mean `oracle`?"},
  };
  for (const auto& [arguments, message] : cases) {
    const CommandResult result = cli.run("compare " + arguments);
    EXPECT_EQ(result.exit_code, 2) << arguments << result.out;
    EXPECT_TRUE(contains(result.err, message)) << arguments << "\n" << result.err;
  }
  EXPECT_EQ(cli.run("compare d.gguf e.gguf").exit_code, 4) << "an empty comparison is no pass";
  EXPECT_EQ(cli.run("compare a.gguf d.gguf").exit_code, 0);
}

}  // namespace
}  // namespace refute
