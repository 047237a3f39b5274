#include "validators/contract.h"

#include <gtest/gtest.h>

#include <string>

#include "validators/sha256.h"
#include "validators/version.h"

namespace refute {
namespace {

Contract read_valid() {
  Findings findings;
  Result<SourceFile> source =
      load_source(std::string(REFUTE_TEST_DATA) + "/contracts/valid/router-v1.yaml");
  EXPECT_TRUE(source.has_value());
  std::optional<Contract> contract = read_contract(std::move(*source), findings);
  EXPECT_TRUE(contract.has_value());
  EXPECT_TRUE(std::move(findings).take_sorted().empty());
  return std::move(*contract);
}

Contract read_text(const std::string& text) {
  Findings findings;
  std::optional<Contract> contract = read_contract(SourceFile("dir/a-v1.yaml", text), findings);
  EXPECT_TRUE(contract.has_value());
  return contract ? std::move(*contract) : Contract();
}

TEST(Contract, HoldsWhatItsFileSays) {
  const Contract contract = read_valid();
  EXPECT_TRUE(contract.is_ours);
  EXPECT_EQ(contract.id.text, "router-v1");
  EXPECT_EQ(contract.id.at, (Position{2, 5}));
  EXPECT_EQ(contract.version, "1.2.0");
  EXPECT_EQ(contract.claimed_status->text, "PARTIAL");
  EXPECT_EQ(contract.sha256, sha256_hex(contract.source.text()));
  ASSERT_EQ(contract.stages.size(), 2U);
  EXPECT_TRUE(contract.stages[0].proved_by_validation);
  EXPECT_EQ(contract.stages[1].needs[1].text, "AC_ROUTER_002");
  EXPECT_EQ(contract.stages[1].after[0].text, "M-R-0");
  EXPECT_TRUE(contract.stages[0].backends.empty());
  EXPECT_EQ(contract.stages[1].backends,
            (std::vector<BackendId>{BackendId::kCpu, BackendId::kCuda, BackendId::kWgpu}));
  ASSERT_EQ(contract.acceptance.size(), 3U);
  EXPECT_EQ(contract.acceptance[0].formal, "|Σ w_i - 1| ≤ 1e-6");
  ASSERT_EQ(contract.falsifiers.size(), 3U);
  EXPECT_EQ(contract.shapes.size(), 4U);
  EXPECT_EQ(contract.find_stage("M-R-1"), &contract.stages[1]);
  EXPECT_EQ(contract.find_acceptance("AC_ROUTER_004"), nullptr);
}

TEST(Contract, HoldsEachFalsifierBlock) {
  const Contract contract = read_valid();
  const FalsifierBlock& block = contract.falsifiers[0];
  EXPECT_EQ(block.falsifier.text, "router.weights_sum_to_one");
  EXPECT_EQ(block.backends, (std::vector<BackendId>{BackendId::kOracle, BackendId::kCpu}));
  EXPECT_EQ(block.subjects[2].text, "models/other.gguf");
  EXPECT_EQ(block.cases, 200U);
  ASSERT_EQ(block.gates.size(), 1U);
  EXPECT_EQ(block.gates[0].metric.text, "sum_error");
  EXPECT_EQ(block.gates[0].bound, 1e-6);
  EXPECT_EQ(block.must_kill[1].text, "F29");
  EXPECT_EQ(block.blind_to[0].fault.text, "F33");
  EXPECT_EQ(contract.falsifiers[1].cases, 100U);
  EXPECT_EQ(contract.falsifiers[2].if_refuted, "The precision of the router's logits.\n");
}

TEST(Contract, BlockHashSeesMeaningButNoLayout) {
  const std::string text = read_valid().source.text();
  const std::string hash = read_text(text).falsifiers[0].sha256;
  std::string commented = text;
  commented.insert(commented.find("    cases: 200"), "    # a comment\n");
  EXPECT_EQ(read_text(commented).falsifiers[0].sha256, hash);
  EXPECT_NE(read_text(commented).sha256, sha256_hex(text));
  std::string loosened = text;
  loosened.replace(loosened.find("1e-6}"), 4, "2e-6");
  EXPECT_NE(read_text(loosened).falsifiers[0].sha256, hash);
  EXPECT_EQ(read_text(loosened).falsifiers[1].sha256, read_text(text).falsifiers[1].sha256);
}

TEST(Contract, OursIsToldFromThePublicDialect) {
  EXPECT_TRUE(read_text("id: a-v1\n").is_ours);
  EXPECT_TRUE(read_text("metadata: {version: 1.0.0}\nshapes: {}\n").is_ours);
  EXPECT_FALSE(read_text("id: a-v1\nmetadata: {version: 1.0.0}\n").is_ours);
  const Contract dialect = read_text("metadata: {version: 1.0.0, depends_on: [b-v1]}\n");
  EXPECT_FALSE(dialect.is_ours);
  EXPECT_EQ(dialect.id.text, "a-v1");
  EXPECT_EQ(dialect.version, "1.0.0");
  EXPECT_EQ(dialect.depends_on[0].text, "b-v1");
}

TEST(Contract, CountsTheDialectAsProse) {
  const Contract contract = read_text(
      "metadata: {version: 1.0.0}\n"
      "proof_obligations: [{type: invariant}, {type: bound}]\n"
      "falsification_tests:\n"
      "  - {id: FALSIFY-A-1, prediction: a, status: PROPOSED}\n"
      "  - {prediction: b}\n"
      "implementation_stages:\n"
      "  - {id: M-1, status: SHIPPED, description: d, expected_acceptance: AC_1}\n"
      "  - {id: M-2, status: PENDING, evidence: [a, b], expected_acceptance: [AC_2, AC_3]}\n");
  EXPECT_EQ(contract.proof_obligations, 2U);
  ASSERT_EQ(contract.prose_predictions.size(), 2U);
  EXPECT_EQ(contract.prose_predictions[0].id.text, "FALSIFY-A-1");
  ASSERT_EQ(contract.stages.size(), 2U);
  EXPECT_TRUE(contract.stages[0].from_dialect);
  EXPECT_EQ(contract.stages[0].claimed_status->text, "SHIPPED");
  EXPECT_EQ(contract.stages[1].needs[1].text, "AC_3");
  EXPECT_EQ(contract.status_mentions.size(), 3U);
}

TEST(Contract, FindsTheVersionInAHeaderThatSpeaksOfIt) {
  const auto header_version = [](const std::string& header) {
    const Contract contract = read_text(header + "id: a-v1\nversion: 2.0.0\n");
    return contract.version_mentions.size() < 2 ? std::string("none")
                                                : contract.version_mentions[1].version.text;
  };
  EXPECT_EQ(header_version("# Router Contract v1.1.0\n"), "1.1.0");
  EXPECT_EQ(header_version("# words\n# version: 1.2.3\n"), "1.2.3");
  EXPECT_EQ(header_version("# a-v1 3.0.0\n"), "3.0.0");
  EXPECT_EQ(header_version("# see UCBD Spec v1.0.0 Section 7.3\n"), "none");
  EXPECT_EQ(header_version(""), "none");
}

TEST(Shapes, AreHeldAgainstAConcreteModel) {
  const Contract contract = read_valid();
  std::map<std::string, std::int64_t> config = {{"hidden_size", 2048},
                                                {"num_experts", 128},
                                                {"num_experts_per_tok", 8},
                                                {"num_attention_heads", 32},
                                                {"num_key_value_heads", 4}};
  EXPECT_TRUE(check_shapes(contract.shapes, config).violations.empty());
  EXPECT_TRUE(check_shapes(contract.shapes, config).unchecked.empty());
  config["hidden_size"] = 100;
  config["num_experts_per_tok"] = 129;
  config["num_key_value_heads"] = 5;
  const ShapeCheck broken = check_shapes(contract.shapes, config);
  ASSERT_EQ(broken.violations.size(), 3U);
  EXPECT_EQ(broken.violations[0].message, "hidden_size multiple_of 256: hidden_size is 100");
  EXPECT_EQ(broken.violations[0].constraint.at, (Position{12, 30}));
  EXPECT_EQ(broken.violations[1].message,
            "num_experts_per_tok le num_experts: num_experts_per_tok is 129, num_experts is 128");
  config["hidden_size"] = 0;
  EXPECT_EQ(check_shapes(contract.shapes, config).violations.size(), 3U);
  config.erase("num_experts");
  EXPECT_EQ(check_shapes(contract.shapes, config).unchecked.size(), 1U);
}

TEST(Version, IsThreeNumbers) {
  EXPECT_EQ(*parse_version("1.20.3"), (Version{1, 20, 3}));
  for (const char* text : {"", "1", "1.2", "1.2.3.4", "v1.2.3", "1.2.x", "01.2.3", "1..3", "-1.2.3",
                           "1.2.3-rc1", "99999999999999999999.0.0"}) {
    EXPECT_FALSE(parse_version(text)) << text;
  }
  EXPECT_EQ(find_version("Contract v1.2.0.")->text, "1.2.0");
  EXPECT_EQ(find_version("Contract v1.2.0.")->offset, 10U);
  EXPECT_FALSE(find_version("section 7.3, 2026-02-04"));
}

TEST(Sha256, MatchesTheStandardsExamples) {
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

}  // namespace
}  // namespace refute
