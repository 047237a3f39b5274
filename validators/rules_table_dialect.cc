// RF5xx: files of the public dialect. Checked in contract_dialect.cc and rules_run.cc.
#include "validators/rules_tables.h"

namespace refute::internal {

std::span<const RuleInfo> dialect_rules() {
  static constexpr RuleInfo kRules[] = {
      {"RF501", "underivable-status", Severity::kNote,
       "A status in a file of the public dialect is counted, not confirmed.",
       "No falsifier is bound there, so nothing that ran can bear it out.",
       "status: DISCHARGED     (in a file without falsifiers)",
       "falsifiers: [...]     (and the status is derived)"},
      {"RF502", "foreign-key", Severity::kNote,
       "A top-level key is not part of the public dialect and is read as prose.",
       "A misspelt key would take its predictions with it, so it is named.",
       "falsification_test: []", "falsification_tests: []"},
      {"RF503", "foreign-status", Severity::kNote,
       "A status in a file of the public dialect is not a word that is known.",
       "It cannot be ranked against a derived status.", "status: ALMOST", "status: PROPOSED"},
      {"RF504", "unresolved-dependency", Severity::kNote,
       "A file of the public dialect depends on one that is not in the run nor beside it.",
       "What it builds on was not read.", "depends_on: [silu-v9]", "depends_on: [silu-kernel-v1]"},
      {"RF505", "no-prediction", Severity::kNote, "A file states no prediction.",
       "It cannot be refuted, and must not pass as if it had been tried.",
       "metadata: {version: 1.0.0}",
       R"(falsification_tests:
  - {id: FALSIFY-1, prediction: Weights sum to one.})"},
      {"RF506", "repeated-prose-id", Severity::kWarning,
       "Two files of the public dialect give the same id to two predictions.",
       "The id no longer says which prediction is meant.",
       "- id: FALSIFY-RM-001     (also in another file)", "- id: FALSIFY-ROOFLINE-001"},
      {"RF507", "uncounted-block", Severity::kWarning,
       "A block of the public dialect does not have the form that is counted.",
       "Its predictions are missing from the denominators.", "falsification_tests: none yet",
       "falsification_tests: []"},
  };
  return kRules;
}

}  // namespace refute::internal
