// RF1xx: keys, their types, ids and versions. Checked in contract_reader.cc and rules_versions.cc.
#include "validators/rules_tables.h"

namespace refute::internal {

std::span<const RuleInfo> key_rules() {
  static constexpr RuleInfo kRules[] = {
      {"RF101", "unknown-key", Severity::kError, "Every key of a contract is known.",
       "A misspelt key that is dropped in silence takes its gate or its prediction with it.",
       "must_kil: [F22]", "must_kill: [F22]"},
      {"RF102", "missing-key", Severity::kError, "Required keys are there.",
       "A criterion without its gate, subject or fault list cannot be held against anything.",
       R"(- {id: AC_1, formal: "sum = 1"})",
       R"(- {id: AC_1, property: Weights sum to one., formal: "sum = 1"})"},
      {"RF103", "wrong-type", Severity::kError, "A value is of the type that its key needs.",
       "A reader that converts in silence turns a list into a text, or a text into nothing.",
       "backends: cpu", "backends: [cpu]"},
      {"RF104", "empty-value", Severity::kError, "A value is not empty.",
       "An empty list is a claim about nothing, which always holds.", "backends: []",
       "backends: [oracle, cpu]"},
      {"RF105", "bad-id", Severity::kError,
       "An id is letters, digits, `.`, `_` and `-`, and starts with a letter or digit.",
       "Ids are written on command lines, in file names and in records.", "id: moe router",
       "id: moe-router-v1"},
      {"RF106", "duplicate-id", Severity::kError, "Ids are unique across all contracts of a run.",
       "Records and stages bind to ids: one redefined makes a proof of one claim count for "
       "another.",
       R"(- {id: AC_1, property: a, formal: a}
- {id: AC_1, property: b, formal: b})",
       R"(- {id: AC_1, property: a, formal: a}
- {id: AC_2, property: b, formal: b})"},
      {"RF107", "bad-version", Severity::kError, "A version is MAJOR.MINOR.PATCH.",
       "Records bind to a version; `1.0` is read as a number and `latest` as nothing.",
       "version: 1.0", "version: 1.0.0"},
      {"RF108", "versions-disagree", Severity::kError,
       "All places of a file that state its version agree.",
       "With `version: 1.8.0` beside a header that says 1.7.2, nobody knows which one was proved.",
       R"(# Router contract v1.7.2
version: 1.8.0)",
       R"(# Router contract v1.8.0
version: 1.8.0)"},
      {"RF109", "unknown-status", Severity::kError, "A claimed status is a known word.",
       "An unknown status can be neither confirmed nor refuted.", "status: DONE",
       "status: DISCHARGED"},
      {"RF110", "repeated-entry", Severity::kWarning, "A list names each thing once.",
       "The second one does nothing; most likely another was meant.", "backends: [cpu, cpu]",
       "backends: [cpu, cuda]"},
  };
  return kRules;
}

}  // namespace refute::internal
