#include "validators/status.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "falsifiers/registry.h"
#include "tests/validators/sample_record.h"

namespace refute {
namespace {

// One contract: stage S1 needs the router on the oracle and the CPU, S2 comes after it and is
// proved by validation.
const std::string kContract = R"(id: sample-v1
version: 1.0.0
kind: kernel
description: A sample.
stages:
  - id: S1
    title: First
    needs: [AC_1]
  - id: S2
    title: Second
    evidence: validation
    after: [S1]
  - id: S3
    title: On the CPU alone
    backends: [cpu]
    needs: [AC_1]
acceptance:
  - id: AC_1
    property: Weights sum to 1.
    formal: "sum(w) = 1"
falsifiers:
  - id: FALSIFY-SAMPLE-001
    falsifier: router.weights_sum_to_one
    acceptance: [AC_1]
    backends: [oracle, cpu]
    subjects: [synthetic]
    cases: 7
    must_kill: [F22]
    if_refuted: Look.
)";

class StatusTest : public testing::Test {
 protected:
  void SetUp() override {
    Findings findings;
    auto contract = read_contract(SourceFile("sample.yaml", kContract), findings);
    ASSERT_TRUE(contract.has_value());
    contracts_.push_back(*std::move(contract));
    basis_.tree_sha256 = std::string(64, 'a');
    basis_.subject_sha256 = std::string(64, 'b');
    basis_.expected_sha256 = std::string(64, 'e');
  }

  // A record that holds for this contract on one backend.
  RunRecord held(BackendId backend) const {
    RunRecord record = sample_record();
    RecordedResult& result = record.results[0];
    result.contract_sha256 = contracts_[0].sha256;
    result.criterion_sha256 = contracts_[0].falsifiers[0].sha256;
    result.backend = backend;
    result.verdict.metrics.clear();
    for (const MetricInfo& metric : find_falsifier(result.falsifier)->metrics) {
      result.verdict.metrics.push_back({.metric = std::string(metric.name),
                                        .worst = metric.ceiling,
                                        .threshold = metric.ceiling,
                                        .larger_is_better = metric.larger_is_better,
                                        .where = "somewhere"});
    }
    return record;
  }

  void add(RunRecord record) {
    record.started_at[18] = static_cast<char>('0' + store_.records.size());
    store_.records.push_back({"r" + std::to_string(store_.records.size()), std::move(record)});
  }

  StageReport report(const std::string& stage) {
    board_ = derive_statuses(contracts_, store_, basis_);
    EXPECT_NE(board_.find(stage), nullptr);
    return *board_.find(stage);
  }
  StageStatus status(const std::string& stage) { return report(stage).status; }

  std::vector<Contract> contracts_;
  StatusBasis basis_;
  RecordStore store_;
  StatusBoard board_;
};

TEST_F(StatusTest, IsPendingWithoutRecords) {
  const StageReport found = report("S1");
  EXPECT_EQ(found.status, StageStatus::kPending);
  EXPECT_EQ(found.sentence, "No record speaks of AC_1.");
  EXPECT_EQ(found.command, "refute run sample.yaml --filter FALSIFY-SAMPLE-001 --backend oracle");
}

TEST_F(StatusTest, IsPartialWithOneBackendOfTwo) {
  add(held(BackendId::kOracle));
  EXPECT_EQ(status("S1"), StageStatus::kPartial);
  EXPECT_EQ(report("S1").command,
            "refute run sample.yaml --filter FALSIFY-SAMPLE-001 --backend cpu");
}

TEST_F(StatusTest, ShipsWhenAllHeldAndNothingComesBefore) {
  add(held(BackendId::kOracle));
  add(held(BackendId::kCpu));
  EXPECT_EQ(status("S1"), StageStatus::kShipped);
  EXPECT_EQ(status("S2"), StageStatus::kShipped);
  EXPECT_EQ(report("S1").command, "");
}

TEST_F(StatusTest, IsDischargedButNotShippedAfterAStageThatIsNot) {
  const StageReport found = report("S2");
  EXPECT_EQ(found.status, StageStatus::kDischarged);
  EXPECT_NE(found.sentence.find("comes after S1, which is PENDING"), std::string::npos);
}

TEST_F(StatusTest, CountsOnlyTheBackendsOfTheStage) {
  add(held(BackendId::kCpu));
  EXPECT_EQ(status("S3"), StageStatus::kShipped);
  EXPECT_EQ(status("S1"), StageStatus::kPartial);
}

TEST_F(StatusTest, IsPendingWhenTheContractProvingItIsInvalid) {
  basis_.invalid_contracts = {"sample.yaml"};
  EXPECT_EQ(status("S2"), StageStatus::kPending);
}

TEST_F(StatusTest, IsStaleWhenContractBlockTreeOrBoundsDiffer) {
  const auto stale_because = [&](const auto& change, const std::string& why) {
    store_.records.clear();
    for (const BackendId backend : {BackendId::kOracle, BackendId::kCpu}) {
      RunRecord record = held(backend);
      change(record);
      add(record);
    }
    const StageReport found = report("S1");
    EXPECT_EQ(found.status, StageStatus::kStale) << why;
    EXPECT_NE(found.sentence.find(why), std::string::npos) << found.sentence;
  };
  const std::string other(64, '0');
  stale_because([&](RunRecord& r) { r.results[0].contract_sha256 = other; },
                "the contract file has changed");
  stale_because([&](RunRecord& r) { r.results[0].criterion_sha256 = other; },
                "its falsifier block has changed");
  stale_because([&](RunRecord& r) { r.tree_sha256 = other; }, "have changed");
  stale_because([&](RunRecord& r) { r.results[0].expected_sha256 = other; }, "other expectations");
  stale_because([&](RunRecord& r) { r.results[0].cases = 6; }, "asked for 6 cases");
  stale_because([&](RunRecord& r) { r.results[0].verdict.metrics.clear(); }, "lacks the metric");
  stale_because([&](RunRecord& r) { r.results[0].verdict.metrics[0].threshold *= 2; },
                "its bound on");
}

TEST_F(StatusTest, IsRefutedByTheNewestMatchingRecordHoweverFewItsCases) {
  add(held(BackendId::kOracle));
  add(held(BackendId::kCpu));
  RunRecord refuted = held(BackendId::kCpu);
  refuted.results[0].verdict.kind = VerdictKind::kRefuted;
  refuted.results[0].verdict.reason = "token 3: sum_error";
  refuted.results[0].cases = 1;
  add(refuted);
  EXPECT_EQ(status("S1"), StageStatus::kRefuted);
  EXPECT_NE(report("S1").sentence.find("token 3: sum_error"), std::string::npos);
  add(held(BackendId::kCpu));
  EXPECT_EQ(status("S1"), StageStatus::kShipped);
}

TEST_F(StatusTest, IsRefutedByGivingUpOnlyOverAllTheCases) {
  add(held(BackendId::kOracle));
  add(held(BackendId::kCpu));
  RunRecord gave_up = held(BackendId::kCpu);
  gave_up.results[0].verdict.kind = VerdictKind::kGaveUp;
  add(gave_up);
  EXPECT_EQ(status("S1"), StageStatus::kRefuted);
  store_.records.back().record.results[0].cases = 1;
  EXPECT_EQ(status("S1"), StageStatus::kShipped);
}

TEST_F(StatusTest, IsNotChangedByWhatWasNotRunOrIsAboutOtherModels) {
  add(held(BackendId::kOracle));
  add(held(BackendId::kCpu));
  RunRecord not_run = held(BackendId::kCpu);
  not_run.results[0].verdict = Verdict::not_run("no device");
  add(not_run);
  RunRecord other = held(BackendId::kCpu);
  other.results[0].subject_sha256 = std::string(64, '0');
  other.results[0].verdict.kind = VerdictKind::kRefuted;
  add(other);
  EXPECT_EQ(status("S1"), StageStatus::kShipped);
  EXPECT_EQ(board_.other_subjects.size(), 1U);
}

TEST_F(StatusTest, KeepsAMatchingRecordBelowANewerStaleOne) {
  add(held(BackendId::kOracle));
  add(held(BackendId::kCpu));
  RunRecord other_tree = held(BackendId::kCpu);
  other_tree.tree_sha256 = std::string(64, '0');
  add(other_tree);
  EXPECT_EQ(status("S1"), StageStatus::kShipped);
}

}  // namespace
}  // namespace refute
