// RF3xx: acceptance criteria, stages, claimed statuses. Checked in rules_stages.cc.
#include "validators/rules_tables.h"

namespace refute::internal {

std::span<const RuleInfo> stage_rules() {
  static constexpr RuleInfo kRules[] = {
      {"RF301", "unattacked-acceptance", Severity::kError,
       "Every acceptance criterion is cited by at least one falsifier.",
       "A criterion that nothing tries to break is prose.",
       R"(acceptance:
  - {id: AC_1, property: a, formal: a}
falsifiers: [])",
       R"(falsifiers:
  - {id: FALSIFY-1, acceptance: [AC_1]})"},
      {"RF302", "unstaged-acceptance", Severity::kError,
       "Every acceptance criterion is needed by a stage.",
       "A criterion that no stage needs can fail without any status showing it.",
       R"(stages:
  - {id: M-1, title: Router, needs: [AC_1]}     (and AC_2 is defined))",
       R"(stages:
  - {id: M-1, title: Router, needs: [AC_1, AC_2]})"},
      {"RF303", "unknown-acceptance", Severity::kError,
       "An acceptance id that a stage or falsifier cites is defined in this contract.",
       "A dangling id looks like a proof and is none.", "needs: [AC_ROUTR_1]",
       "needs: [AC_ROUTER_1]"},
      {"RF304", "unknown-stage", Severity::kError,
       "A stage that another one comes after is defined in this contract.",
       "A stage that waits for nothing known can never ship.", "after: [M-0.9]", "after: [M-0.5]"},
      {"RF305", "stage-cycle", Severity::kError, "The order of stages has no cycle.",
       "Stages that wait for each other can never ship.",
       R"(- {id: M-1, after: [M-2]}
- {id: M-2, after: [M-1]})",
       R"(- {id: M-1}
- {id: M-2, after: [M-1]})"},
      {"RF306", "stage-without-proof", Severity::kError,
       "A stage either needs acceptance criteria or says `evidence: validation`, not both.",
       "A stage that needs nothing would be discharged by nothing.", "- {id: M-1, title: Router}",
       "- {id: M-1, title: Router, needs: [AC_1]}"},
      {"RF307", "status-above-derived", Severity::kError,
       "A claimed status is not above the one derived from records.",
       "A status typed by hand says what somebody hoped; the derived one says what ran.",
       "- {id: M-1, needs: [AC_1], status: SHIPPED}     (no record)",
       "- {id: M-1, needs: [AC_1], status: PENDING}"},
      {"RF308", "unknown-dependency", Severity::kError,
       "A contract that `depends_on` names is in the run or beside the file as NAME.yaml.",
       "A claim that rests on a contract nobody can find rests on nothing.",
       "depends_on: [moe-routre-v1]", "depends_on: [moe-router-v1]"},
      {"RF309", "untried-on-backend", Severity::kError,
       "A criterion that a stage needs is tried by a falsifier on one of the stage's backends.",
       "Nothing that can run would ever discharge the stage.",
       R"(stages:
  - {id: M-1, needs: [AC_1], backends: [cuda]}
falsifiers:
  - {id: FALSIFY-1, acceptance: [AC_1], backends: [cpu]})",
       R"(falsifiers:
  - {id: FALSIFY-1, acceptance: [AC_1], backends: [cpu, cuda]})"},
  };
  return kRules;
}

}  // namespace refute::internal
