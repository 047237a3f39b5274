// RF108.
#include <fmt/format.h>

#include "validators/rules_check.h"
#include "validators/version.h"

namespace refute {

void check_versions(const Contract& contract, Findings& findings) {
  const VersionMention* first = nullptr;
  for (const VersionMention& mention : contract.version_mentions) {
    const auto version = parse_version(mention.version.text);
    if (!version) continue;
    if (first == nullptr) {
      first = &mention;
    } else if (*version != *parse_version(first->version.text)) {
      findings.report(
          "RF108", contract.source, mention.version.at, mention.version.length,
          fmt::format("{} says {}, but {} on line {} says {}", mention.where, mention.version.text,
                      first->where, first->version.at.line, first->version.text));
    }
  }
}

}  // namespace refute
