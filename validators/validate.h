// Validation of files and folders of contracts: what `refute validate` does but for the printing.
//
//   const ValidateResult result = validate_paths({"contracts"}, context);
//   for (const Diagnostic& found : result.diagnostics) print(render(found));
//   return static_cast<int>(result.exit_code());
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "validators/contract.h"
#include "validators/diagnostic.h"
#include "validators/exit_code.h"
#include "validators/rules_check.h"

namespace refute {

// What a verdict is about. "0 errors" with nothing bound is not the same as with all bound.
struct Denominators {
  std::size_t acceptance = 0;           // Acceptance criteria.
  std::size_t bound = 0;                // Those that a registered falsifier tries to break.
  std::size_t falsification_tests = 0;  // Predictions of the public dialect: prose.
  std::size_t proof_obligations = 0;    // Of the public dialect: prose too, counted apart.
  std::size_t falsifiers = 0;           // Falsifier blocks.
  std::size_t stages = 0;
  std::size_t claimed_statuses = 0;

  std::size_t predictions() const { return acceptance + falsification_tests; }
  std::size_t prose_only() const { return predictions() - bound; }
  Denominators& operator+=(const Denominators& other);
};

// "19 predictions: 14 bound, 5 prose only; 8 proof obligations: prose; 6 stages; 2 claimed
// statuses".
std::string describe(const Denominators& denominators);

Denominators count(const Contract& contract, const RuleContext& context);

struct ValidateResult {
  std::size_t files = 0;            // Contract files found, also those that could not be parsed.
  std::size_t unreadable = 0;       // Paths that are missing or cannot be read.
  std::vector<Contract> contracts;  // Those that could be parsed, in the order of their paths.
  std::vector<Denominators> denominators;  // Of each contract.
  Denominators total;
  std::vector<Diagnostic> diagnostics;
  std::size_t errors = 0;
  std::size_t warnings = 0;
  std::size_t notes = 0;
  std::size_t registered_falsifiers = 0;
  std::size_t cited_falsifiers = 0;  // Registered ones that some contract cites.

  // kUsageOrUnreadable when a path cannot be read, else kNothingSelected without any file, else
  // kRefutedOrInvalid with any error, else kHeld.
  ExitCode exit_code() const;

  // Whether no error was found in the contract's file.
  bool is_valid(const Contract& contract) const;
};

// Sources already in memory. Contracts named in `beside` count as there for `depends_on`; with
// `whole_folder` every registered falsifier must be cited, and the ones that are not are reported
// for that folder.
ValidateResult validate_sources(std::vector<SourceFile> sources, const RuleContext& context,
                                const std::set<std::string>& beside = {},
                                const std::optional<std::string>& whole_folder = std::nullopt);

// Files, and folders searched for *.yaml and *.yml (hidden ones are not entered; a file reached
// twice counts once). A folder that holds schema/contract.schema.json is a contracts folder, which
// must cite every registered falsifier. Contracts in the folders of the files count for
// `depends_on`.
ValidateResult validate_paths(std::span<const std::string> paths, const RuleContext& context);

}  // namespace refute
