// RF2xx: shapes. Checked in contract_shapes.cc.
#include "validators/rules_tables.h"

namespace refute::internal {

std::span<const RuleInfo> shape_rules() {
  static constexpr RuleInfo kRules[] = {
      {"RF201", "unknown-symbol", Severity::kError, "A shape speaks of a known dimension.",
       "A constraint on a misspelt dimension is never broken.",
       R"(shapes:
  hiden_size: {multiple_of: 256})",
       R"(shapes:
  hidden_size: {multiple_of: 256})"},
      {"RF202", "unknown-constraint", Severity::kError,
       "A constraint is one of eq, ge, le, gt, lt, multiple_of, divides.",
       "An unknown constraint cannot be checked.", "head_dim: {min: 1}", "head_dim: {ge: 1}"},
      {"RF203", "bad-bound", Severity::kError,
       "A constraint's bound is a positive integer or a known dimension.",
       "A dimension of 0 makes every claim about it empty, and a negative one does not exist.",
       "hidden_size: {multiple_of: 0}", "hidden_size: {multiple_of: 256}"},
      {"RF204", "unsatisfiable-shape", Severity::kError,
       "Some model can meet the constraints on a dimension.",
       "A claim about no model at all always holds.", "head_dim: {ge: 128, le: 64}",
       "head_dim: {ge: 64, le: 128}"},
  };
  return kRules;
}

}  // namespace refute::internal
