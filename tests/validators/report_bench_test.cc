#include "validators/bench/report_bench.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

namespace refute {
namespace {

BenchReport report(double bandwidth) {
  BenchPoint point{.threads = 2, .layers = 4};
  point.prefill = {.seconds = {0.5, 0.4, 0.6, 0.5, 0.5}, .tokens = 128};
  point.decode = {.seconds = {1.0, 1.1, 0.9, 1.0, 1.0}, .tokens = 32};
  point.bytes_per_token = 1e9;
  point.bandwidth = ReadBandwidth{.median = bandwidth, .best = 1.6 * bandwidth};
  return {.subject = "a, b.gguf",
          .backend = "cpu (portable, 2 threads)",
          .device = "some processor",
          .points = {point}};
}

TEST(BenchReport, StatesTheShareOfTheBandwidth) {
  const BenchReport good = report(64e9);
  EXPECT_EQ(good.exit_code(), ExitCode::kHeld);
  EXPECT_DOUBLE_EQ(*good.points[0].share(), 0.5);
  EXPECT_DOUBLE_EQ(*good.points[0].share_of_best(), 0.3125);
  const std::string text = render_bench(good, Format::kHuman, {});
  for (const char* part :
       {"256.0", "32.0", "40.0 %", "20.0 %", "1000.000", "64.00", "50.0 %", "31.2 %"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  }
}

TEST(BenchReport, TakesAShareAboveOneForAnError) {
  const BenchReport bad = report(31e9);
  EXPECT_EQ(bad.exit_code(), ExitCode::kInternal);
  ASSERT_EQ(bad.errors().size(), 1U);
  EXPECT_NE(bad.errors()[0].find("103.2 %"), std::string::npos) << bad.errors()[0];
  EXPECT_NE(render_bench(bad, Format::kHuman, {}).find("error: "), std::string::npos);
  BenchReport unknown = report(1.0);
  unknown.points[0].bandwidth.reset();
  EXPECT_EQ(unknown.exit_code(), ExitCode::kHeld);
  EXPECT_NE(render_bench(unknown, Format::kHuman, {}).find("unknown"), std::string::npos);
}

TEST(BenchReport, WritesCsvAndJsonOfTheSameFigures) {
  const std::string csv = render_bench(report(64e9), Format::kCsv, {});
  EXPECT_TRUE(
      csv.starts_with("subject,backend,device,threads,layers,depth,prompt,decode,repeats,"
                      "prefill_tokens_per_second_median,"))
      << csv;
  EXPECT_NE(csv.find("\n\"a, b.gguf\",\"cpu (portable, 2 threads)\",some processor,2,4,"),
            std::string::npos)
      << csv;
  const auto json = nlohmann::json::parse(render_bench(report(64e9), Format::kJson, {}));
  const auto& point = json["points"][0];
  EXPECT_EQ(point["decode_tokens_per_second"]["median"], 32.0);
  EXPECT_EQ(point["share_of_bandwidth"], 0.5);
  EXPECT_EQ(point["best_bandwidth_bytes_per_second"], 1.6 * 64e9);
  EXPECT_EQ(point["share_of_best_bandwidth"], 0.3125);
  EXPECT_EQ(point["decode_seconds"].size(), 5U);
  EXPECT_TRUE(point["clock_mhz"].is_null());
}

}  // namespace
}  // namespace refute
