#include "validators/validate.h"

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "tests/validators/stub_registry.h"
#include "tests/validators/test_folder.h"

namespace refute {
namespace {

namespace fs = std::filesystem;

const std::string kContracts = std::string(REFUTE_TEST_DATA) + "/contracts";

class Folder {
 public:
  std::string path() const { return folder_.path().string(); }
  std::string write(const std::string& name, const std::string& text) const {
    fs::create_directories((folder_.path() / name).parent_path());
    std::ofstream(folder_.path() / name, std::ios::binary) << text;
    return (folder_.path() / name).string();
  }

 private:
  TestFolder folder_;
};

ValidateResult validate(const std::vector<std::string>& paths) {
  return validate_paths(paths, stub_context());
}

std::string minimal(const std::string& id, const std::string& suffix,
                    const std::string& more = "") {
  return "id: " + id + "\nversion: 1.0.0\ndescription: d\n" + more + "stages:\n  - {id: M-" +
         suffix + ", title: t, needs: [AC_" + suffix + "]}\nacceptance:\n  - {id: AC_" + suffix +
         ", property: p, formal: f}\nfalsifiers:\n  - {id: FALSIFY-" + suffix +
         ", falsifier: router.weights_sum_to_one, acceptance: [AC_" + suffix +
         "], backends: [cpu], subjects: [embedded], must_kill: [F22], if_refuted: x}\n";
}

TEST(Validate, HoldsForAValidFileAndPrintsItsDenominators) {
  const ValidateResult result = validate({kContracts + "/valid/router-v1.yaml"});
  EXPECT_EQ(result.exit_code(), ExitCode::kHeld);
  EXPECT_EQ(result.files, 1U);
  EXPECT_EQ(describe(result.total),
            "3 predictions: 3 bound, 0 prose only; 2 stages; 3 claimed statuses");
  EXPECT_EQ(result.registered_falsifiers, 3U);
  EXPECT_EQ(result.cited_falsifiers, 3U);
}

TEST(Validate, SaysWhatIsBoundAndWhatIsProse) {
  const Folder folder;
  const std::string path = folder.write(
      "a-v1.yaml", minimal("a-v1", "1",
                           "proof_obligations: [{type: bound}]\nfalsification_tests:\n"
                           "  - {id: P-1, prediction: p}\n  - {id: P-2, prediction: q}\n"));
  const ValidateResult result = validate({path});
  EXPECT_EQ(result.exit_code(), ExitCode::kHeld);
  EXPECT_EQ(describe(result.total),
            "3 predictions: 1 bound, 2 prose only; 1 proof obligation: prose only; 1 stage; "
            "0 claimed statuses");
}

TEST(Validate, AMissingPathIsUnreadable) {
  const ValidateResult result =
      validate({kContracts + "/valid", kContracts + "/no_such_file.yaml"});
  EXPECT_EQ(result.exit_code(), ExitCode::kUsageOrUnreadable);
  EXPECT_EQ(result.unreadable, 1U);
  ASSERT_EQ(result.diagnostics.size(), 1U);
  EXPECT_EQ(result.diagnostics[0].rule, "RF001");
  EXPECT_EQ(result.files, 1U);
}

TEST(Validate, NothingSelectedIsNoPass) {
  const Folder folder;
  folder.write("notes.txt", "no contract");
  EXPECT_EQ(validate({folder.path()}).exit_code(), ExitCode::kNothingSelected);
  EXPECT_EQ(validate({}).exit_code(), ExitCode::kNothingSelected);
}

TEST(Validate, AnEmptyFileIsInvalid) {
  const Folder folder;
  const ValidateResult result = validate({folder.write("a.yaml", "")});
  EXPECT_EQ(result.exit_code(), ExitCode::kRefutedOrInvalid);
  EXPECT_TRUE(result.contracts.empty());
}

TEST(Validate, AFileThatIsTooLargeIsUnreadable) {
  const Folder folder;
  const std::string path = folder.write("a.yaml", "id: a\n");
  fs::resize_file(path, kMaxSourceBytes + 1);
  EXPECT_EQ(validate({path}).exit_code(), ExitCode::kUsageOrUnreadable);
}

TEST(Validate, SearchesFoldersAndReadsEachFileOnce) {
  const Folder folder;
  folder.write("a-v1.yaml", minimal("a-v1", "1"));
  const std::string deep = folder.write("deep/er/b-v1.yml", minimal("b-v1", "2"));
  folder.write(".hidden/c.yaml", "not: [yaml");
  folder.write("evidence/run.json", "{}");
  const ValidateResult result =
      validate({folder.path(), deep, folder.path() + "/deep/../a-v1.yaml"});
  EXPECT_EQ(result.files, 2U);
  EXPECT_EQ(result.exit_code(), ExitCode::kHeld);
}

TEST(Validate, IdsAreUniqueAcrossTheRun) {
  const Folder folder;
  const std::string first = folder.write("a-v1.yaml", minimal("a-v1", "1"));
  const std::string second = folder.write("b-v1.yaml", minimal("b-v1", "1"));
  EXPECT_EQ(validate({first}).exit_code(), ExitCode::kHeld);
  const ValidateResult result = validate({first, second});
  EXPECT_EQ(result.errors, 3U);  // The stage, the criterion and the falsifier.
  for (const Diagnostic& found : result.diagnostics) {
    EXPECT_EQ(found.rule, "RF106");
    EXPECT_EQ(found.file, second);
    EXPECT_NE(found.message.find("a-v1.yaml:"), std::string::npos);
  }
  EXPECT_TRUE(result.is_valid(result.contracts[0]));
  EXPECT_FALSE(result.is_valid(result.contracts[1]));
}

TEST(Validate, DependenciesAreInTheRunOrBesideIt) {
  const Folder folder;
  const std::string path = folder.write("a-v1.yaml", minimal("a-v1", "1", "depends_on: [b-v1]\n"));
  EXPECT_EQ(validate({path}).exit_code(), ExitCode::kRefutedOrInvalid);
  folder.write("b-v1.yaml", minimal("b-v1", "2"));
  EXPECT_EQ(validate({path}).exit_code(), ExitCode::kHeld);
  EXPECT_EQ(validate({folder.path()}).exit_code(), ExitCode::kHeld);
}

TEST(Validate, AContractsFolderMustCiteEveryRegisteredFalsifier) {
  EXPECT_EQ(validate({kContracts + "/whole"}).exit_code(), ExitCode::kHeld);
  const Folder folder;
  const std::string file = folder.write("a-v1.yaml", minimal("a-v1", "1"));
  EXPECT_EQ(validate({folder.path()}).exit_code(), ExitCode::kHeld);
  folder.write("schema/contract.schema.json", "{}");
  EXPECT_EQ(validate({file}).exit_code(), ExitCode::kHeld);
  const ValidateResult result = validate({folder.path()});
  EXPECT_EQ(result.exit_code(), ExitCode::kRefutedOrInvalid);
  ASSERT_EQ(result.diagnostics.size(), 2U);
  EXPECT_EQ(result.diagnostics[0].rule, "RF402");
  EXPECT_EQ(result.diagnostics[0].file, folder.path());
  EXPECT_NE(result.diagnostics[0].message.find("determinism.repeats_are_bitwise_equal"),
            std::string::npos);
}

TEST(Validate, AClaimIsHeldAgainstTheDerivedStatus) {
  const Folder folder;
  std::string text = minimal("a-v1", "1");
  text.replace(text.find("title: t"), 8, "title: t, status: SHIPPED");
  const std::string path = folder.write("a-v1.yaml", text);
  RuleContext context = stub_context();
  const auto errors_when = [&](StageStatus derived) {
    context.derived_status = [derived](std::string_view contract, std::string_view stage) {
      return contract == "a-v1" && stage == "M-1" ? std::optional(derived) : std::nullopt;
    };
    return validate_paths(std::vector<std::string>{path}, context).errors;
  };
  EXPECT_EQ(errors_when(StageStatus::kShipped), 0U);
  EXPECT_EQ(errors_when(StageStatus::kDischarged), 1U);
  EXPECT_EQ(errors_when(StageStatus::kStale), 1U);
  EXPECT_EQ(validate({path}).errors, 1U);
  EXPECT_NE(render(validate({path}).diagnostics[0]).find(":5:33: error[RF307]"), std::string::npos)
      << render(validate({path}).diagnostics[0]);
}

TEST(Validate, AStageProvedByValidationFallsWithItsContract) {
  std::string text = minimal("a-v1", "1");
  text.insert(text.find("  - {id: M-1"),
              "  - {id: M-0, title: t, evidence: validation, status: SHIPPED}\n");
  EXPECT_EQ(validate_sources({SourceFile("a.yaml", text)}, stub_context()).errors, 0U);
  text.replace(text.find("must_kill: [F22]"), 16, "must_kill: [F0]");
  const ValidateResult result = validate_sources({SourceFile("a.yaml", text)}, stub_context());
  ASSERT_EQ(result.errors, 2U);
  EXPECT_EQ(result.diagnostics[0].rule, "RF307");
}

TEST(Validate, TheDialectIsNotHeldToOurRules) {
  const std::string text =
      "metadata: {version: 1.0.0, depends_on: [b-v1]}\nstatus: ALMOST\nfalsification_test: []\n"
      "falsification_tests: none\n";
  const ValidateResult result = validate_sources({SourceFile("a.yaml", text)}, stub_context());
  EXPECT_EQ(result.exit_code(), ExitCode::kHeld);
  std::vector<std::string_view> rules;
  for (const Diagnostic& found : result.diagnostics) rules.push_back(found.rule);
  EXPECT_EQ(rules,
            (std::vector<std::string_view>{"RF505", "RF504", "RF501", "RF503", "RF502", "RF507"}));
  EXPECT_EQ(result.warnings, 1U);
  EXPECT_EQ(result.diagnostics[4].help, "did you mean `falsification_tests`?");
}

TEST(Validate, AProseIdThatIsAlsoOursIsAnError) {
  const std::string prose =
      "metadata: {version: 1.0.0}\nfalsification_tests:\n  - {id: FALSIFY-1}\n";
  const auto rule_of_second = [&](const std::string& second) {
    const ValidateResult result = validate_sources(
        {SourceFile("a.yaml", prose), SourceFile("b.yaml", second)}, stub_context());
    return std::string(result.diagnostics.empty() ? "" : result.diagnostics.back().rule);
  };
  EXPECT_EQ(rule_of_second(prose), "RF506");
  EXPECT_EQ(rule_of_second(minimal("b", "1")), "RF106");
  EXPECT_EQ(rule_of_second(minimal("b", "2")), "");
}

TEST(StageStatus, WordsOfThePublicDialectHaveARank) {
  EXPECT_EQ(parse_claimed_status("PROPOSED"), StageStatus::kPending);
  EXPECT_EQ(parse_claimed_status("ALGORITHM_LEVEL_DISCHARGED"), StageStatus::kPartial);
  EXPECT_EQ(parse_claimed_status("ACTIVE_RUNTIME"), StageStatus::kDischarged);
  EXPECT_FALSE(parse_claimed_status("shipped"));
  EXPECT_EQ(stage_status_name(StageStatus::kShipped), "SHIPPED");
  EXPECT_LT(stage_status_rank(StageStatus::kStale), stage_status_rank(StageStatus::kPartial));
  EXPECT_LT(stage_status_rank(StageStatus::kDischarged), stage_status_rank(StageStatus::kShipped));
  for (const std::string_view word : status_words())
    EXPECT_TRUE(parse_claimed_status(word)) << word;
}

}  // namespace
}  // namespace refute
