#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/validators/command_line.h"

namespace refute {
namespace {

// The contracts of the tree, which the mutants are tried on.
std::string arguments(const std::string& more) {
  return std::string("selftest '") + REFUTE_SOURCE_DIR + "/contracts' " + more;
}

TEST(SelftestCommand, HoldsForAFaultThatIsKilledAndPrintsJson) {
  const CommandLine cli;
  const auto result =
      cli.run(arguments("--fault F22 --filter 'router.*' --backend cpu --format json"));
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const auto report = nlohmann::json::parse(result.out);
  EXPECT_TRUE(report.at("passed").get<bool>());
  EXPECT_EQ(report.at("matrix").at("faults").size(), 1u);
}

TEST(SelftestCommand, ExitsWithOneForAFaultThatNothingReaches) {
  const CommandLine cli;
  const auto result = cli.run(arguments("--fault F45 --filter 'router.*' --backend cpu"));
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_NE(result.out.find("UNREACHED"), std::string::npos) << result.out;
}

TEST(SelftestCommand, SuggestsAFaultForAMisspeltOne) {
  const CommandLine cli;
  const auto result = cli.run(arguments("--fault F2222"));
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_NE(result.err.find("F222"), std::string::npos) << result.err;
}

TEST(SelftestCommand, IsNoPassWithNothingSelected) {
  const CommandLine cli;
  EXPECT_EQ(cli.run(arguments("--filter no-such-thing")).exit_code, 4);
}

}  // namespace
}  // namespace refute
