#include "validators/rules.h"

#include <fmt/format.h>

#include <vector>

#include "validators/rules_tables.h"

namespace refute {
namespace {

std::vector<RuleInfo> join_tables() {
  std::vector<RuleInfo> all;
  for (const auto part :
       {internal::file_rules(), internal::key_rules(), internal::shape_rules(),
        internal::stage_rules(), internal::falsifier_rules(), internal::dialect_rules()}) {
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

std::string indent(std::string_view lines) {
  std::string text;
  while (!lines.empty()) {
    const std::size_t end = lines.find('\n');
    text += "    " + std::string(lines.substr(0, end)) + "\n";
    lines = end == lines.npos ? std::string_view() : lines.substr(end + 1);
  }
  return text;
}

}  // namespace

std::span<const RuleInfo> rule_table() {
  static const std::vector<RuleInfo> kAll = join_tables();
  return kAll;
}

const RuleInfo* find_rule(std::string_view id_or_name) {
  for (const RuleInfo& rule : rule_table()) {
    if (rule.id == id_or_name || rule.name == id_or_name) return &rule;
  }
  return nullptr;
}

std::string explain_rule(const RuleInfo& rule) {
  return fmt::format("{} {} ({})\n{}\n\nWhy: {}\n\nWrong:\n{}\nRight:\n{}", rule.id, rule.name,
                     severity_name(rule.severity), rule.summary, rule.why, indent(rule.bad),
                     indent(rule.good));
}

}  // namespace refute
