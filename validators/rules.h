// The rules that `refute validate` holds a contract to, as data: what `refute explain RF409`
// prints.
//
// A new rule is an entry in a table rules_table_<theme>.cc, its check in rules_<theme>.cc or in the
// reader of the contract, and a file tests/data/contracts/invalid/<name>.yaml.
//
// RF0xx the file, RF1xx its keys, RF2xx shapes, RF3xx acceptance and stages, RF4xx falsifiers,
// RF5xx files of the public dialect, which hold prose and are never an error for it.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "validators/diagnostic.h"

namespace refute {

struct RuleInfo {
  std::string_view id;    // "RF409"
  std::string_view name;  // "loose-gate"
  Severity severity;
  std::string_view summary;  // One sentence.
  std::string_view why;
  std::string_view bad;   // YAML that breaks the rule.
  std::string_view good;  // The same put right.
};

// Sorted by id; ids and names are unique.
std::span<const RuleInfo> rule_table();

// By id or by name; null when there is none.
const RuleInfo* find_rule(std::string_view id_or_name);

// What `explain` prints of a rule: several lines, ending with a line break.
std::string explain_rule(const RuleInfo& rule);

}  // namespace refute
