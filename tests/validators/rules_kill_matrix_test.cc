// RF414 to RF417 against a small kill matrix.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/validators/stub_registry.h"
#include "validators/kill_matrix.h"
#include "validators/source_file.h"
#include "validators/validate.h"

namespace refute {
namespace {

constexpr const char* kWeights = "router.weights_sum_to_one";

KillCell killed(const std::string& falsifier, const std::string& metric, double worst,
                double threshold) {
  return {falsifier, CellState::kKilled, {{metric, worst, threshold, false}}};
}

FaultRow row_of(const std::string& fault, BackendId host, std::vector<KillCell> cells) {
  FaultRow row;
  row.fault = fault;
  row.host = host;
  row.hits = 1;
  row.cells = std::move(cells);
  return row;
}

// All that router-v1.yaml claims, and a killer of what its first falsifier is blind to.
KillMatrix matrix_of_the_fixture() {
  KillMatrix matrix;
  matrix.subject = "model";
  matrix.seeds = {1, 2, 3};
  matrix.cases = 100;
  matrix.rows = {
      row_of("F22", BackendId::kCpu, {killed(kWeights, "sum_error", 0.5, 1e-6)}),
      row_of("F29", BackendId::kCpu, {killed(kWeights, "sum_error", 0.1, 1e-6)}),
      row_of("F33", BackendId::kCpu, {killed("moe.parity", "relative_l2", 0.2, 5e-6)}),
      row_of("F82", BackendId::kCpu,
             {killed("determinism.repeats_are_bitwise_equal", "differing_bits", 9.0, 0.0)}),
  };
  matrix.noise = {
      {"determinism.repeats_are_bitwise_equal", BackendId::kCpu, "differing_bits", 0.0, 0.0, false},
      {kWeights, BackendId::kCpu, "sum_error", 1e-8, 1e-6, false}};
  return matrix;
}

std::string fixture() {
  const std::filesystem::path path =
      std::filesystem::path(REFUTE_TEST_DATA) / "contracts/valid/router-v1.yaml";
  std::string text = load_source(path.string()).value().text();
  // A reason names who kills it instead.
  const std::string reason = "The sum stays when two weights are exchanged.";
  return text.replace(text.find(reason), reason.size(), "moe.parity kills it.");
}

// Without those on the claimed status, which falls with any error.
std::vector<Diagnostic> diagnostics(const std::string& text, const KillMatrix& matrix) {
  RuleContext context = stub_context();
  context.kill_matrix = &matrix;
  auto found = validate_sources({SourceFile("a.yaml", text)}, context).diagnostics;
  std::erase_if(found,
                [](const Diagnostic& diagnostic) { return !diagnostic.rule.starts_with("RF41"); });
  return found;
}

std::string edited(std::string text, const std::string& from, const std::string& to) {
  const auto at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

// The only finding, which is of `rule`.
Diagnostic only(const std::vector<Diagnostic>& found, const std::string& rule) {
  std::string all;
  for (const Diagnostic& diagnostic : found) all += render(diagnostic);
  EXPECT_EQ(found.size(), 1u) << all;
  if (found.empty()) return {};
  EXPECT_EQ(found.front().rule, rule) << found.front().message;
  return found.front();
}

TEST(RulesOfTheKillMatrix, FindNothingWhereTheMatrixShowsAllThatIsClaimed) {
  const auto found = diagnostics(fixture(), matrix_of_the_fixture());
  EXPECT_TRUE(found.empty()) << render(found.front());
}

TEST(RulesOfTheKillMatrix, AMustKillThatTheMatrixDoesNotShowIsAnError) {  // RF414
  KillMatrix matrix = matrix_of_the_fixture();
  matrix.rows[1].cells.front().state = CellState::kSurvived;
  const Diagnostic found = only(diagnostics(fixture(), matrix), "RF414");
  EXPECT_NE(found.message.find("does not show that router.weights_sum_to_one kills F29"),
            std::string::npos)
      << found.message;
  EXPECT_EQ(found.severity, Severity::kError);
}

TEST(RulesOfTheKillMatrix, AKillOnABackendThatTheBlockDoesNotListIsNone) {  // RF414
  KillMatrix matrix = matrix_of_the_fixture();
  matrix.rows[0].host = BackendId::kCuda;
  const Diagnostic found = only(diagnostics(fixture(), matrix), "RF414");
  EXPECT_NE(found.message.find("kills F22 on oracle or cpu"), std::string::npos) << found.message;
}

TEST(RulesOfTheKillMatrix, ATrappedCellIsNoKill) {  // RF414
  KillMatrix matrix = matrix_of_the_fixture();
  matrix.rows[0].cells.front().state = CellState::kTrapped;
  only(diagnostics(fixture(), matrix), "RF414");
}

TEST(RulesOfTheKillMatrix, AKillThatIsNotClearOfTheNoiseIsAnError) {  // RF414
  KillMatrix matrix = matrix_of_the_fixture();
  // Past the threshold, and the threshold past the geometric mean of noise and fault.
  matrix.rows[0].cells.front().by.front().worst = 2e-6;
  const Diagnostic found = only(diagnostics(fixture(), matrix), "RF414");
  EXPECT_NE(found.message.find("kills F22 too narrowly"), std::string::npos) << found.message;
}

TEST(RulesOfTheKillMatrix, NothingIsHeldAgainstABlockWhoseBackendsHostNoFaults) {
  // FALSIFY-ROUTER-003 runs on wgpu alone; with a row of wgpu its claim is looked at.
  KillMatrix matrix = matrix_of_the_fixture();
  matrix.rows.push_back(row_of("F38", BackendId::kWgpu, {}));
  const Diagnostic found = only(diagnostics(fixture(), matrix), "RF414");
  EXPECT_NE(found.message.find("F38"), std::string::npos) << found.message;
}

TEST(RulesOfTheKillMatrix, ABlindSpotThatTheFalsifierKillsIsAnError) {  // RF415
  KillMatrix matrix = matrix_of_the_fixture();
  matrix.rows[2].cells.push_back(killed(kWeights, "sum_error", 0.2, 1e-6));
  only(diagnostics(fixture(), matrix), "RF415");
}

TEST(RulesOfTheKillMatrix, ABlindSpotWhoseReasonNamesNoKillerIsAnError) {  // RF416
  const Diagnostic found =
      only(diagnostics(edited(fixture(), "moe.parity kills it.", "The sum stays."),
                       matrix_of_the_fixture()),
           "RF416");
  EXPECT_NE(found.help.find("moe.parity"), std::string::npos) << found.help;
}

TEST(RulesOfTheKillMatrix, FewerCasesThanTheMatrixIsAWarning) {  // RF417
  const Diagnostic found = only(
      diagnostics(edited(fixture(), "cases: 200", "cases: 50"), matrix_of_the_fixture()), "RF417");
  EXPECT_EQ(found.severity, Severity::kWarning);
}

}  // namespace
}  // namespace refute
