// The table tests/data/corpus/verdicts.tsv: what validation says of each file of the public corpus,
// and why.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "tests/validators/stub_registry.h"
#include "validators/validate.h"

namespace refute {

struct CorpusVerdict {
  std::string sha256;
  std::string verdict;  // "valid", "valid_with_notes" or "invalid".
  std::string rules;    // "RF505:1 RF501:44", in order of their places; "-" for none.
  std::string counts;   // Predictions, bound, prose only, proof obligations, claimed statuses.
  std::string explanation;
};

// By path within the corpus.
inline std::map<std::string, CorpusVerdict> read_corpus_verdicts() {
  std::ifstream in(std::string(REFUTE_TEST_DATA) + "/corpus/verdicts.tsv");
  std::map<std::string, CorpusVerdict> verdicts;
  std::string line;
  std::getline(in, line);  // The heading.
  while (std::getline(in, line)) {
    std::vector<std::string> cells;
    std::istringstream row(line);
    for (std::string cell; std::getline(row, cell, '\t');) cells.push_back(cell);
    EXPECT_EQ(cells.size(), 10U) << line;
    if (cells.size() != 10) continue;
    verdicts[cells[0]] = {
        cells[1], cells[2], cells[3],
        cells[4] + " " + cells[5] + " " + cells[6] + " " + cells[7] + " " + cells[8], cells[9]};
  }
  return verdicts;
}

// Validates a folder in one run and holds each file against its row.
inline ValidateResult expect_corpus_verdicts(const std::string& folder) {
  const std::map<std::string, CorpusVerdict> verdicts = read_corpus_verdicts();
  ValidateResult result = validate_paths(std::vector<std::string>{folder}, stub_context());
  EXPECT_EQ(result.contracts.size(), result.files) << "a file did not load";
  for (std::size_t i = 0; i < result.contracts.size(); ++i) {
    const Contract& contract = result.contracts[i];
    const std::string path = contract.source.path().substr(folder.size() + 1);
    const auto expected = verdicts.find(path);
    EXPECT_NE(expected, verdicts.end()) << path << " has no row";
    if (expected == verdicts.end()) continue;
    std::string rules;
    for (const Diagnostic& found : result.diagnostics) {
      if (found.file != contract.source.path()) continue;
      rules += (rules.empty() ? "" : " ") + std::string(found.rule) + ":" +
               std::to_string(found.at.line);
    }
    const std::string verdict = !result.is_valid(contract) ? "invalid"
                                : rules.empty()            ? "valid"
                                                           : "valid_with_notes";
    const Denominators& count = result.denominators[i];
    std::ostringstream counts;
    counts << count.predictions() << " " << count.bound << " " << count.prose_only() << " "
           << count.proof_obligations << " " << count.claimed_statuses;
    EXPECT_EQ(contract.sha256, expected->second.sha256) << path;
    EXPECT_EQ(verdict, expected->second.verdict) << path;
    EXPECT_EQ(rules.empty() ? "-" : rules, expected->second.rules) << path;
    EXPECT_EQ(counts.str(), expected->second.counts) << path;
    EXPECT_GE(expected->second.explanation.size(), 20U) << path;
  }
  return result;
}

}  // namespace refute
