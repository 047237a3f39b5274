// RF4xx: falsifiers. Checked in rules_falsifiers.cc.
#include "validators/rules_tables.h"

namespace refute::internal {

std::span<const RuleInfo> falsifier_rules() {
  static constexpr RuleInfo kRules[] = {
      {"RF401", "unknown-falsifier", Severity::kError, "A falsifier that is cited is registered.",
       "A name that no code answers to is never tried.", "falsifier: router.weight_sum",
       "falsifier: router.weights_sum_to_one"},
      {"RF402", "uncited-falsifier", Severity::kError,
       "Every registered falsifier is cited by some contract of the contracts folder.",
       "One that no contract cites is never run. Checked when the folder that holds "
       "schema/contract.schema.json is validated whole.",
       "(router.ties_go_to_the_lowest_index is registered, and no contract names it)",
       "- {id: FALSIFY-2, falsifier: router.ties_go_to_the_lowest_index}"},
      {"RF403", "unknown-backend", Severity::kError, "A backend is one of oracle, cpu, cuda, wgpu.",
       "A misspelt backend is never required, so never missed.", "backends: [gpu]",
       "backends: [cuda]"},
      {"RF404", "unsupported-backend", Severity::kError,
       "The falsifier can try each backend that is listed.",
       "The run would require what can never run.",
       R"(falsifier: cpu.dispatch     (cpu only)
backends: [cuda])",
       "backends: [cpu]"},
      {"RF405", "unknown-subject", Severity::kError,
       "A subject is embedded, packs, synthetic, or the path of a GGUF file.",
       "A misspelt subject is never loaded.", "subjects: [embeded]", "subjects: [embedded, packs]"},
      {"RF406", "bad-cases", Severity::kError,
       "The number of cases is a whole number from 1 to 1000000.", "Zero cases refute nothing.",
       "cases: 0", "cases: 100"},
      {"RF407", "unknown-gate", Severity::kError, "A gate names a metric of its falsifier.",
       "A gate on a metric that is not measured is never broken.", "gates: {relativ_l2: 1e-5}",
       "gates: {relative_l2: 1e-5}"},
      {"RF408", "bad-gate-bound", Severity::kError,
       "A gate is a finite, positive number; 0 only where the falsifier's own ceiling is 0.",
       "Nothing exceeds .inf, nothing compares with .nan, and a text is no number.",
       "gates: {relative_l2: .inf}", "gates: {relative_l2: 1e-5}"},
      {"RF409", "loose-gate", Severity::kError,
       "A gate is not looser than the falsifier's compiled ceiling.",
       "The ceiling is set from measured noise and fault floors; past it a known fault passes.",
       "gates: {relative_l2: 1e9}", "gates: {relative_l2: 1e-5}"},
      {"RF410", "unreachable-gate", Severity::kError,
       "A gate can be met: at most 1 for a metric such as a cosine or a share.",
       "A gate that nothing meets refutes right engines, and then somebody removes it.",
       "gates: {cosine_worst_row: 99}", "gates: {cosine_worst_row: 0.99}"},
      {"RF411", "empty-must-kill", Severity::kError, "must_kill names at least one fault.",
       "A criterion that was never seen to fail is not a criterion.", "must_kill: []",
       "must_kill: [F22]"},
      {"RF412", "unknown-fault", Severity::kError,
       "must_kill and blind_to name faults of the catalogue.",
       "A fault that does not exist is never seeded. `refute list faults` shows them.",
       "must_kill: [F222]", "must_kill: [F22]"},
      {"RF413", "killed-and-blind", Severity::kError,
       "A fault is not both in must_kill and in blind_to.", "One of the two is wrong.",
       R"(must_kill: [F22]
blind_to: {F22: scale is not seen})",
       "must_kill: [F22]"},
      {"RF414", "unshown-kill", Severity::kError,
       "The kill matrix shows that the falsifier kills each fault of must_kill, clear of noise.",
       "A claim to kill is measured: F >= 3 N, and a threshold not above the geometric mean of "
       "noise "
       "N and fault F. `refute selftest` measures.",
       R"(falsifier: router.weights_sum_to_one
must_kill: [F45]     (an epsilon))",
       "must_kill: [F22]"},
      {"RF415", "seen-blind-spot", Severity::kError,
       "The kill matrix shows no kill of a fault in blind_to.",
       "It is no blind spot: it belongs into must_kill.", "blind_to: {F22: not seen}",
       "must_kill: [F22]"},
      {"RF416", "blind-without-killer", Severity::kError,
       "The reason of a blind spot names a falsifier that the kill matrix shows to kill the fault.",
       "What this one cannot see, another must.", "blind_to: {F45: invisible at normal scale}",
       "blind_to: {F45: invisible at normal scale; rms_norm.closed_form_near_epsilon kills it}"},
      {"RF417", "fewer-cases", Severity::kWarning,
       "A criterion asks for at least as many cases as the kill matrix was measured with.",
       "With fewer cases, what was seen to be killed may survive.", "cases: 3", "cases: 100"},
  };
  return kRules;
}

}  // namespace refute::internal
