#include "validators/record.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "tests/validators/command_line.h"
#include "tests/validators/sample_record.h"
#include "validators/record_store.h"
#include "validators/sha256.h"

namespace refute {
namespace {

TEST(Record, ReadsBackWhatItWrites) {
  RunRecord record = sample_record();
  record.results[0].seed = std::numeric_limits<std::uint64_t>::max();
  record.results[0].verdict.metrics[0].worst = 0.7e-7;
  const Result<RunRecord> read = read_record("r.json", write_record(record));
  ASSERT_TRUE(read) << read.error().message();
  ASSERT_EQ(read->results.size(), 1U);
  const RecordedResult& result = read->results[0];
  EXPECT_EQ(result.seed, std::numeric_limits<std::uint64_t>::max());
  EXPECT_EQ(result.verdict.metrics[0].worst, 0.7e-7);
  EXPECT_EQ(result.contract, record.results[0].contract);
  EXPECT_EQ(result.verdict.kind, VerdictKind::kHeld);
  EXPECT_EQ(read->files[0].name, "model.gguf");
  EXPECT_EQ(write_record(*read), write_record(record));
}

TEST(Record, KeepsNanAndInfinityAsStrings) {
  RunRecord record = sample_record();
  record.results[0].verdict.kind = VerdictKind::kRefuted;
  record.results[0].verdict.metrics[0].worst = std::numeric_limits<double>::quiet_NaN();
  record.results[0].verdict.metrics[0].threshold = -std::numeric_limits<double>::infinity();
  const std::string text = write_record(record);
  EXPECT_NE(text.find("\"NaN\""), std::string::npos);
  EXPECT_NE(text.find("\"-Infinity\""), std::string::npos);
  const Result<RunRecord> read = read_record("r.json", text);
  ASSERT_TRUE(read) << read.error().message();
  EXPECT_TRUE(std::isnan(read->results[0].verdict.metrics[0].worst));
}

TEST(Record, IsRejectedWhenAnyValueIsEdited) {
  const std::string text = write_record(sample_record());
  for (const auto& [from, to] : {std::pair<std::string, std::string>{"\"held\"", "\"error\""},
                                 {"\"run\": 7", "\"run\": 8"},
                                 {"0x1p-24", "0x1p-25"},
                                 {"\"seed\": \"3\"", "\"seed\": \"4\""}}) {
    const Result<RunRecord> read = read_record("r.json", replaced(text, from, to));
    ASSERT_FALSE(read) << from;
    EXPECT_NE(read.error().message().find("changed after it was written"), std::string::npos)
        << read.error().message();
  }
}

// An edit that also mends the digest is still held to the fields and to the numbers.
TEST(Record, IsRejectedWhenItsNumbersContradictItsVerdict) {
  RunRecord without_case = sample_record();
  without_case.results[0].verdict.cases_run = 0;
  RunRecord failed_case = sample_record();
  failed_case.results[0].verdict.cases_failed = 1;
  RunRecord above = sample_record();
  above.results[0].verdict.metrics[0].worst = 1.0;
  RunRecord not_a_number = sample_record();
  not_a_number.results[0].verdict.metrics[0].worst = std::numeric_limits<double>::quiet_NaN();
  RunRecord no_bound = sample_record();
  no_bound.results[0].verdict.metrics[0].threshold = std::numeric_limits<double>::infinity();
  for (const RunRecord& record : {without_case, failed_case, above, not_a_number, no_bound}) {
    const Result<RunRecord> read = read_record("r.json", write_record(record));
    ASSERT_FALSE(read);
    EXPECT_NE(read.error().message().find("claims to have held"), std::string::npos)
        << read.error().message();
  }
}

TEST(Record, IsRejectedWhenFieldsAreMissingOrUnknown) {
  EXPECT_FALSE(read_record("r.json", ""));
  EXPECT_FALSE(read_record("r.json", "{}"));
  EXPECT_FALSE(read_record("r.json", "[1, 2"));
  const std::string text = write_record(sample_record());
  EXPECT_FALSE(read_record("r.json", replaced(text, "\"falsifier\"", "\"falsifer\"")));
  EXPECT_FALSE(read_record("r.json", replaced(text, "urn:refute:run:v1", "urn:refute:run:v2")));
  EXPECT_FALSE(read_record("r.json", text.substr(0, text.size() / 2)));
}

TEST(RecordStore, CountsWhatIsNoRecordAsRejected) {
  const CommandLine place;
  const auto folder = place.folder() / "records";
  RunRecord later = sample_record();
  later.started_at = "2026-01-02T00:00:00.000000Z";
  ASSERT_TRUE(store_record(folder, later));
  ASSERT_TRUE(store_record(folder, sample_record()));
  write_text(folder / "broken.json", "{\"_type\": 1}");
  write_text(folder / "ignored.txt", "no record");
  const RecordStore store =
      load_records(std::vector<std::filesystem::path>{folder, place.folder() / "missing", folder});
  ASSERT_EQ(store.records.size(), 2U);
  EXPECT_LT(store.records[0].record.started_at, store.records[1].record.started_at);
  ASSERT_EQ(store.rejected.size(), 1U);
  EXPECT_NE(store.rejected[0].where.find("broken.json"), std::string::npos);
}

TEST(Sha256, MatchesThePublishedVector) {
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

}  // namespace
}  // namespace refute
