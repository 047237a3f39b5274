#include "validators/run.h"

#include <gtest/gtest.h>

#include <chrono>
#include <set>
#include <string>
#include <vector>

#include "falsifiers/registry.h"
#include "validators/run_record.h"

namespace refute {
namespace {

class SilentObserver : public RunObserver {
 public:
  void started(std::size_t, std::size_t, const RunItem&) override {}
  void finished(const Outcome&) override { ++finished_; }
  std::size_t finished_ = 0;
};

class RunTest : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"router.yaml", "pack.yaml"}) {
      const std::string path = std::string(REFUTE_TEST_DATA) + "/contracts/run/" + name;
      Result<SourceFile> source = load_source(path);
      ASSERT_TRUE(source) << source.error().message();
      Findings findings;
      auto contract = read_contract(*std::move(source), findings);
      ASSERT_TRUE(contract.has_value());
      contracts_.push_back(*std::move(contract));
    }
  }

  RunPlan plan() const { return plan_run(contracts_, options_); }
  std::vector<Outcome> execute_with(const SubjectRequest& request, const RunPlan& plan) {
    Result<LoadedSubject> subject = load_subject(request);
    EXPECT_TRUE(subject) << subject.error().message();
    const Result<Backends> backends = Backends::create(1);
    EXPECT_TRUE(backends);
    std::vector<Outcome> outcomes = execute(plan.items, *subject, *backends, options_, observer_);
    record_ = make_record(outcomes, *subject, *backends, std::chrono::system_clock::now(), 1);
    return outcomes;
  }

  std::vector<Contract> contracts_;
  RunOptions options_;
  SilentObserver observer_;
  RunRecord record_;
};

TEST_F(RunTest, PlansEveryCriterionOnEveryBackendItLists) {
  EXPECT_EQ(plan().items.size(), 6U);
  EXPECT_TRUE(plan().waived.empty());
}

TEST_F(RunTest, NamesTheOptionThatLeavesACriterionOut) {
  options_.backends = {BackendId::kOracle, BackendId::kCpu};
  ASSERT_EQ(plan().waived.size(), 1U);
  EXPECT_EQ(plan().waived[0].by, "--backend");
  options_.filter = "FALSIFY-RUN-001";
  EXPECT_EQ(plan().items.size(), 2U);
  EXPECT_EQ(plan().waived.size(), 4U);
  options_.filter = "nothing of this name";
  EXPECT_TRUE(plan().items.empty());
}

TEST_F(RunTest, FiltersByContractFalsifierAcceptanceAndGlob) {
  const auto selected = [&](const std::string& filter) {
    options_.filter = filter;
    return plan().items.size();
  };
  EXPECT_EQ(selected("run-pack-v1"), 1U);
  EXPECT_EQ(selected("router.weights"), 5U);
  EXPECT_EQ(selected("AC_RUN_002"), 3U);
  EXPECT_EQ(selected("FALSIFY-RUN-*"), 6U);
  EXPECT_EQ(selected("RUN-*"), 0U);
  EXPECT_EQ(selected("*.trace_points"), 1U);
}

TEST_F(RunTest, PartitionsCoverEverythingOnce) {
  std::size_t total = 0;
  for (std::size_t index = 1; index <= 3; ++index) {
    options_.partition = {index, 3};
    total += plan().items.size();
  }
  EXPECT_EQ(total, 6U);
}

TEST(Partition, RejectsWhatIsNoShare) {
  for (const char* text : {"", "2/4", "hash:0/4", "hash:5/4", "hash:1/0", "hash:1", "hash:1/",
                           "hash:1/4x", "hash:-1/4", "sum:1/4", "hash:1/10001"}) {
    EXPECT_FALSE(parse_partition(text)) << text;
  }
  const Result<Partition> partition = parse_partition("hash:2/4");
  ASSERT_TRUE(partition);
  EXPECT_EQ(partition->index, 2U);
  EXPECT_EQ(partition->count, 4U);
}

TEST_F(RunTest, TriesWhatIsTheSameOnlyOnce) {
  options_.filter = "run-router-v1";
  const std::vector<Outcome> outcomes = execute_with({}, plan());
  ASSERT_EQ(outcomes.size(), 5U);
  EXPECT_EQ(observer_.finished_, 5U);
  EXPECT_FALSE(outcomes[0].shared);
  EXPECT_TRUE(outcomes[0].verdict.held()) << outcomes[0].verdict.reason;
  EXPECT_TRUE(outcomes[2].shared);
  EXPECT_TRUE(outcomes[2].verdict.held());
  EXPECT_EQ(record_.results.size(), 5U);
  EXPECT_EQ(record_.results[2].criterion, "FALSIFY-RUN-002");
  EXPECT_EQ(record_.results[2].subject_sha256, "");
}

TEST_F(RunTest, IsNotRunWithAReasonWhereABackendOrExpectationsAreMissing) {
  const std::vector<Outcome> outcomes =
      execute_with({.model = std::string(REFUTE_SOURCE_DIR) + "/contracts/subjects/kjv-moe-7m.gguf",
                    .expected = "none"},
                   plan());
  EXPECT_EQ(outcomes[4].verdict.kind, VerdictKind::kNotRun);
  EXPECT_EQ(outcomes[4].verdict.reason, "this build has no wgpu backend");
  EXPECT_EQ(outcomes[5].verdict.kind, VerdictKind::kNotRun);
  EXPECT_NE(outcomes[5].verdict.reason.find("no expectations"), std::string::npos);
  EXPECT_EQ(run_exit_code(outcomes), ExitCode::kRequiredNotRun);
}

TEST_F(RunTest, IsNotRunOnASubjectThatTheCriterionDoesNotName) {
  options_.filter = "FALSIFY-RUN-001";
  options_.backends = {BackendId::kOracle};
  const std::string nano = std::string(REFUTE_TEST_DATA) + "/packs/nano.gguf";
  auto& subjects = contracts_[0].falsifiers[0].subjects;
  const auto verdict = [&](const std::string& name, const SubjectRequest& request) {
    subjects.front().text = name;
    const std::vector<Outcome> outcomes = execute_with(request, plan());
    EXPECT_EQ(outcomes.size(), 1U);
    return outcomes.front().verdict;
  };
  EXPECT_TRUE(verdict("synthetic", {}).held());
  EXPECT_TRUE(verdict("embedded", {}).held());
  EXPECT_TRUE(verdict("embedded", {.model = nano, .expected = ""}).held());
  EXPECT_TRUE(verdict("packs", {.model = nano, .expected = ""}).held());
  EXPECT_TRUE(verdict(nano, {.model = nano, .expected = ""}).held());
  EXPECT_TRUE(verdict("../../packs/nano.gguf", {.model = nano, .expected = ""}).held())
      << "beside the contract";
  for (const char* other : {"packs", "/nowhere/other.gguf"}) {
    const Verdict not_run = verdict(other, {});
    EXPECT_EQ(not_run.kind, VerdictKind::kNotRun) << other;
    EXPECT_NE(not_run.reason.find(other), std::string::npos) << not_run.reason;
  }
  EXPECT_EQ(verdict("/nowhere/other.gguf", {.model = nano, .expected = ""}).kind,
            VerdictKind::kNotRun);
}

TEST_F(RunTest, IsNotRunOnAnEmbeddedModelOfAnotherShape) {
  options_.filter = "FALSIFY-RUN-001";
  options_.backends = {BackendId::kOracle};
  ShapeConstraint shape;
  shape.symbol = "hidden_size";
  shape.relation = Relation::kEq;
  shape.number = 7;
  contracts_[0].shapes = {shape};
  auto& subjects = contracts_[0].falsifiers[0].subjects;
  EXPECT_TRUE(execute_with({}, plan()).front().verdict.held()) << "inputs of its own";
  subjects.front().text = "embedded";
  const Verdict verdict = execute_with({}, plan()).front().verdict;
  EXPECT_EQ(verdict.kind, VerdictKind::kNotRun);
  EXPECT_NE(verdict.reason.find("hidden_size eq 7"), std::string::npos) << verdict.reason;
  const std::size_t hidden_size = load_subject({})->model.config().hidden_size;
  contracts_[0].shapes.front().number = static_cast<std::int64_t>(hidden_size);
  EXPECT_TRUE(execute_with({}, plan()).front().verdict.held());
}

TEST_F(RunTest, FindsTheExpectationsBesideTheModel) {
  options_.filter = "run-pack-v1";
  const std::vector<Outcome> outcomes = execute_with(
      {.model = std::string(REFUTE_TEST_DATA) + "/packs/nano.gguf", .expected = ""}, plan());
  ASSERT_EQ(outcomes.size(), 1U);
  EXPECT_TRUE(outcomes[0].verdict.held()) << outcomes[0].verdict.reason;
  EXPECT_EQ(record_.files[1].name, "nano.expected.gguf");
  EXPECT_EQ(record_.results[0].expected_sha256, record_.files[1].sha256);
}

TEST(LoadSubject, GivesTheEmbeddedModelAPathThatOpensAsLongAsItLives) {
  const Result<LoadedSubject> subject = load_subject({});
  ASSERT_TRUE(subject) << subject.error().message();
  EXPECT_TRUE(subject->embedded);
  EXPECT_EQ(subject->model_sha256, embedded_model_sha256());
  const Result<Model> again = Model::load(subject->model.path(), 1);
  ASSERT_TRUE(again) << again.error().message();
  EXPECT_EQ(again->file_bytes().size(), embedded_model().size());
}

TEST(RunExitCode, PutsRefutationFirstAndNeverPassesOnNothing) {
  const auto code = [](std::vector<VerdictKind> kinds) {
    std::vector<Outcome> outcomes(kinds.size());
    for (std::size_t i = 0; i < kinds.size(); ++i) outcomes[i].verdict.kind = kinds[i];
    return run_exit_code(outcomes);
  };
  using enum VerdictKind;
  EXPECT_EQ(code({}), ExitCode::kNothingSelected);
  EXPECT_EQ(code({kHeld}), ExitCode::kHeld);
  EXPECT_EQ(code({kHeld, kNotRun}), ExitCode::kRequiredNotRun);
  EXPECT_EQ(code({kHeld, kNotRun, kError}), ExitCode::kInternal);
  EXPECT_EQ(code({kError, kRefuted, kHeld}), ExitCode::kRefutedOrInvalid);
  EXPECT_EQ(code({kHeld, kGaveUp}), ExitCode::kRefutedOrInvalid);
}

}  // namespace
}  // namespace refute
