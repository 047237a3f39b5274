// `refute bench` as people and scripts meet it. What it measures is no matter here: a share above
// 100 % of the bandwidth (exit code 3) may come up on a machine that runs other tests meanwhile.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/validators/command_line.h"

namespace refute {
namespace {

using nlohmann::json;

const std::string kNano = "bench '" + std::string(REFUTE_TEST_DATA) + "/packs/nano.gguf' ";

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

bool measured(const CommandResult& result) {
  return result.exit_code == 0 || result.exit_code == 3;
}

TEST(BenchCommand, MeasuresEachNumberOfThreads) {
  const CommandLine cli;
  const CommandResult result = cli.run(
      kNano + "--threads 1,2 --prompt 8 --decode 4 --depth 6 --format json --format csv=bench.csv");
  ASSERT_TRUE(measured(result)) << result.out << result.err;
  const json report = json::parse(result.out);
  ASSERT_EQ(report["points"].size(), 2U);
  const json& point = report["points"][1];
  EXPECT_EQ(point["threads"], 2);
  EXPECT_EQ(point["layers"], 2);
  EXPECT_EQ(point["decode_seconds"].size(), 5U);
  EXPECT_GT(point["prefill_tokens_per_second"]["median"].get<double>(), 0.0);
  EXPECT_GT(point["bandwidth_bytes_per_second"].get<double>(), 0.0);
  EXPECT_GT(point["memory_bytes"].get<double>(), 0.0);
  EXPECT_NEAR(
      point["share_of_bandwidth"].get<double>(),
      point["bytes_per_second"].get<double>() / point["bandwidth_bytes_per_second"].get<double>(),
      1e-12);
  const std::string csv = read_text(cli.folder() / "bench.csv");
  EXPECT_EQ(std::ranges::count(csv, '\n'), 3);
}

// Two points of a sweep, which stand in its order.
void expect_sweep(const std::string& sweep, const std::string& values, const char* column) {
  const CommandLine cli;
  const CommandResult result = cli.run(kNano + "--prompt 4 --decode 2 --threads 1 --sweep " +
                                       sweep + " --values " + values + " --format json");
  ASSERT_TRUE(measured(result)) << result.out << result.err;
  const json report = json::parse(result.out);
  EXPECT_EQ(report["sweep"], sweep);
  EXPECT_EQ(report["growth"].size(), 2U);
  ASSERT_EQ(report["points"].size(), 2U);
  EXPECT_LT(report["points"][0][column], report["points"][1][column]);
}

TEST(BenchCommand, SweepsLayers) { expect_sweep("layers", "2,1", "layers"); }
TEST(BenchCommand, SweepsContext) { expect_sweep("context", "8,0", "depth"); }

TEST(BenchCommand, SaysWhatIsWrong) {
  const CommandLine cli;
  const std::pair<std::string, std::string> cases[] = {
      {"--backend cdua", "did you mean `cuda`?"},
      {"--backend oracle", "known: cpu, cuda"},
      {"--repeats 4", "--repeats"},
      {"--sweep layer", "did you mean `layers`?"},
      {"--values 1,2", "--sweep"},
      {"--sweep layers --threads 1,2", "one number of threads"},
      {"--sweep threads --backend cuda", "--backend cpu"},
      {"--attention tenser --backend cuda", "did you mean `tensor`?"},
      {"--attention tensor", "--backend cuda"},
      {"--layers 3", "1 to 2"},
      {"--sweep threads --values 0", "at least 1"},
      {"--threads 0", "--threads"},
      {"--decode 0", "--decode"},
      {"--depth 1000000", "ContextFull"},
      {"--format xml", "csv"},
  };
  for (const auto& [arguments, message] : cases) {
    const CommandResult result = cli.run(kNano + arguments);
    EXPECT_EQ(result.exit_code, 2) << arguments << result.out;
    EXPECT_TRUE(contains(result.err, message)) << arguments << "\n" << result.err;
  }
}

}  // namespace
}  // namespace refute
