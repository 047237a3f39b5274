// RF0xx: the file as such. Checked in source_file.cc and yaml_tree.cc.
#include "validators/rules_tables.h"

namespace refute::internal {

std::span<const RuleInfo> file_rules() {
  static constexpr RuleInfo kRules[] = {
      {"RF001", "unreadable-file", Severity::kError,
       "A path given can be read, and a file is no larger than 16 MiB.",
       "A path that is not there must not pass as a run over nothing.",
       "refute validate contrcats/", "refute validate contracts/"},
      {"RF002", "invalid-encoding", Severity::kError,
       "A contract is UTF-8 text without control characters.",
       "Some readers take a control character for the end of the file and drop the rest.",
       R"(description: caf\xe9        (a byte of Latin-1))",
       "description: café          (saved as UTF-8)"},
      {"RF003", "yaml-syntax", Severity::kError, "A contract is YAML.",
       "What cannot be read cannot be checked.", "property: sums: to one",
       R"(property: "sums: to one")"},
      {"RF004", "empty-file", Severity::kError, "A contract holds something.",
       "An empty file would pass every other rule.", "# nothing but comments", "id: moe-router-v1"},
      {"RF005", "several-documents", Severity::kError, "A file holds one document.",
       "Readers differ in whether they see the second one.",
       R"(id: a-v1
---
id: b-v1)",
       "id: a-v1"},
      {"RF006", "nested-too-deeply", Severity::kError,
       "Lists and mappings nest no deeper than 200 levels.",
       "Nothing that a contract says needs it; it exhausts the stack of a reader.",
       "a: [[[[[[[...]]]]]]]", "a: [1]"},
      {"RF007", "duplicate-key", Severity::kError, "A key stands once in a mapping.",
       "YAML readers keep the first or the last without a word, so two people read two contracts.",
       R"(cases: 100
cases: 1)",
       "cases: 100"},
      {"RF008", "key-not-text", Severity::kError, "A key is a text.",
       "A list, a mapping or nothing as a key has no meaning in a contract.",
       R"(? [a, b]
: 1)",
       R"(a: 1
b: 1)"},
      {"RF009", "bad-alias", Severity::kError,
       "An alias names an anchor that is complete above it.",
       "An alias inside of its own anchor has no end.", "gates: &g {relative_l2: *g}",
       "gates: &g {relative_l2: 1e-5}"},
      {"RF010", "too-many-values", Severity::kError,
       "A file holds at most 200000 values once its aliases are expanded.",
       "Ten lines of aliases of aliases expand to more than memory holds.",
       R"(a: &a [x, x]
b: &b [*a, *a]
c: &c [*b, *b]     (and so on))",
       "a: [x, x]"},
      {"RF011", "explicit-tag", Severity::kError, "Values carry no YAML tag.",
       "A tag changes what a value is, and readers differ in which tags they know.",
       "cases: !!str 100", "cases: 100"},
      {"RF012", "not-a-mapping", Severity::kError, "A contract is a mapping of keys to values.",
       "A list or a lone text states nothing by name.", "- id: a-v1", "id: a-v1"},
  };
  return kRules;
}

}  // namespace refute::internal
