#include "engine/trace_file.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "tests/engine/gguf_fixtures.h"

namespace refute {
namespace {

constexpr TraceSite kMoeOut{TracePoint::kMoeOut, 1};
constexpr TraceSite kExpertOut{TracePoint::kExpertOut, 0};
constexpr TraceSite kIndex{TracePoint::kRouterIndex, 0};
constexpr TraceSite kLogits{TracePoint::kLogits, 0};

TraceTensor tensor(TraceElement element, std::size_t rows, std::vector<double> values) {
  const std::size_t columns = values.size() / rows;
  return {element, 0, Matrix<double>(rows, columns, std::move(values))};
}

TraceFile sample() {
  TraceOrigin origin{.subject = "sample",
                     .model_sha256 = "00ff",
                     .backend = "cpu",
                     .description = "cpu (portable, 1 thread)",
                     .version = "0.1.0",
                     .tree_sha256 = "abcd",
                     .routes = "own",
                     .error = "NonFinite: logits",
                     .chunk = 2};
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  return make_trace_file(
      origin, {7, 0},
      {{kMoeOut, tensor(TraceElement::kFloat64, 2, {1.0 / 3.0, -0.0, kNan, 1e300})},
       {kExpertOut, tensor(TraceElement::kFloat32, 4, {0.5, 1.5, 2.5, -INFINITY})},
       {kIndex, tensor(TraceElement::kInt32, 2, {3, 1, 0, 2})},
       {kLogits, tensor(TraceElement::kFloat32, 2, {1, 2, 3, 4, 5, 6})}});
}

Result<TraceFile> written_and_read(const TraceFile& trace) {
  const TemporaryFile file("trace_file.gguf");
  const auto written = write_trace_file(trace, file.path());
  if (!written) return written.error();
  return read_trace_file(file.path());
}

TEST(TraceFile, KeepsEveryBitAndWhereItComesFrom) {
  const TraceFile trace = sample();
  const auto read = written_and_read(trace);
  ASSERT_TRUE(read) << read.error().message();
  EXPECT_EQ(read->tokens, trace.tokens);
  EXPECT_EQ(read->origin.subject, "sample");
  EXPECT_EQ(read->origin.model_sha256, "00ff");
  EXPECT_EQ(read->origin.backend, "cpu");
  EXPECT_EQ(read->origin.description, "cpu (portable, 1 thread)");
  EXPECT_EQ(read->origin.tree_sha256, "abcd");
  EXPECT_EQ(read->origin.error, "NonFinite: logits");
  EXPECT_EQ(read->origin.chunk, 2u);
  EXPECT_EQ(read->captures, trace.captures);
  ASSERT_EQ(read->tensors.size(), 4u);
  for (const auto& [site, expected] : trace.tensors) {
    const TraceTensor& found = read->tensors.at(site);
    EXPECT_EQ(found.element, expected.element) << site.name();
    ASSERT_EQ(found.values.rows(), expected.values.rows()) << site.name();
    ASSERT_EQ(found.values.columns(), expected.values.columns()) << site.name();
    EXPECT_EQ(std::memcmp(found.values.data(), expected.values.data(),
                          sizeof(double) * expected.values.size()),
              0)
        << site.name();
  }
}

TEST(TraceFile, KeepsWhatARunThatEndedDoesNotHold) {
  TraceFile trace = sample();
  trace.missing = {{TracePoint::kFfnResidual, 1}, {TracePoint::kOutputNorm, 0}};
  const auto read = written_and_read(trace);
  ASSERT_TRUE(read) << read.error().message();
  EXPECT_EQ(read->missing, trace.missing);
  trace.missing = {kLogits};
  const auto there = written_and_read(trace);
  ASSERT_FALSE(there) << "logits are recorded";
  EXPECT_NE(there.error().message().find("trace.missing"), std::string::npos);
}

TEST(TraceFile, KeepsTokenRangeAndReductionOfEveryCapture) {
  TraceFile trace = sample();
  trace.captures.at(kLogits) = {
      .first_position = 1, .num_tokens = 1, .reduction = "mean", .layout = "row-major"};
  const auto read = written_and_read(trace);
  ASSERT_TRUE(read) << read.error().message();
  EXPECT_EQ(capture_text(read->captures.at(kLogits)), "token 1, reduction mean, row-major");
  EXPECT_EQ(read->tensors.at(kLogits).first_position, 1u);
  EXPECT_EQ(capture_text(read->captures.at(kMoeOut)), "tokens 0 to 1, reduction none, row-major");
}

TEST(TraceFile, RefusesRangesThatItsTokensDoNotHave) {
  TraceFile trace = sample();
  trace.captures.at(kLogits).first_position = 1;
  const auto beyond = written_and_read(trace);
  ASSERT_FALSE(beyond);
  EXPECT_EQ(beyond.error().kind, ErrorKind::kMalformed);
  EXPECT_NE(beyond.error().message().find("logits"), std::string::npos);
  trace = sample();
  trace.captures.at(kMoeOut).num_tokens = 0;
  EXPECT_FALSE(written_and_read(trace));
}

TEST(TraceFile, ReadsOraclePacksAndRefusesModels) {
  const std::string packs = std::string(REFUTE_TEST_DATA) + "/packs/";
  const auto pack = read_trace_file(packs + "nano.expected.gguf");
  ASSERT_TRUE(pack) << pack.error().message();
  EXPECT_TRUE(pack->is_expectations());
  EXPECT_EQ(pack->origin.subject, "nano");
  EXPECT_TRUE(pack->tensors.contains(kMoeOut));
  EXPECT_FALSE(pack->tensors.contains(kExpertOut));
  const auto trained = read_trace_file(std::string(REFUTE_SOURCE_DIR) +
                                       "/contracts/subjects/kjv-moe-7m.expected.gguf");
  ASSERT_TRUE(trained) << trained.error().message();
  const auto model = read_trace_file(packs + "nano.gguf");
  ASSERT_FALSE(model);
  EXPECT_NE(model.error().message().find("a model"), std::string::npos) << model.error().message();
  EXPECT_FALSE(read_trace_file(packs + "missing.gguf"));
}

TEST(TraceFile, RefusesWhatIsCutOffAtAnyPlace) {
  const TemporaryFile file("whole_trace.gguf");
  ASSERT_TRUE(write_trace_file(sample(), file.path()));
  const std::string bytes = file.read();
  const TemporaryFile cut("cut_trace.gguf");
  for (std::size_t size = 0; size < bytes.size(); size += 7) {
    cut.write(bytes.substr(0, size));
    EXPECT_FALSE(read_trace_file(cut.path())) << size;
  }
}

TEST(TraceSite, ParsesOnlyItsOneSpelling) {
  EXPECT_EQ(parse_trace_site("blk.12.expert_gate"), (TraceSite{TracePoint::kExpertGate, 12}));
  EXPECT_EQ(parse_trace_site("logits"), kLogits);
  for (const char* name : {"", "blk.", "blk.0.logits", "moe_out", "blk.00.q", "blk.-1.q", "blk.1.",
                           "blk.99999999.q", "Logits"}) {
    EXPECT_EQ(parse_trace_site(name), std::nullopt) << name;
  }
}

}  // namespace
}  // namespace refute
