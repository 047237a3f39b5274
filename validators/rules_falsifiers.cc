// RF401 and RF404 to RF417: what a falsifier block cites, and its gates.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "validators/rules_check.h"
#include "validators/suggest.h"

namespace refute {
namespace {

constexpr std::array<std::string_view, 3> kSubjects = {"embedded", "packs", "synthetic"};

template <typename Info>
const Info* find_by_id(std::span<const Info> table, std::string_view id) {
  const auto found =
      std::find_if(table.begin(), table.end(), [id](const Info& info) { return info.id == id; });
  return found == table.end() ? nullptr : &*found;
}

template <typename Info>
std::vector<std::string_view> ids_of(std::span<const Info> table) {
  std::vector<std::string_view> ids;
  for (const Info& info : table) ids.push_back(info.id);
  return ids;
}

void check_backends(const Contract& contract, const FalsifierBlock& block,
                    const FalsifierInfo& info, Findings& findings) {
  std::string can;
  for (const BackendId id : info.backends) {
    can += (can.empty() ? "" : ", ") + std::string(backend_name(id));
  }
  for (std::size_t i = 0; i < block.backends.size(); ++i) {
    const auto& backends = info.backends;
    if (std::find(backends.begin(), backends.end(), block.backends[i]) != backends.end()) continue;
    const LocatedText& name = block.backend_names[i];
    findings.report("RF404", contract.source, name.at, name.length,
                    fmt::format("{} cannot try {}", info.id, name.text), "it can try: " + can);
  }
}

bool is_model_path(std::string_view name) {
  return name.find('/') != name.npos || name.ends_with(".gguf");
}

void check_subjects(const Contract& contract, const FalsifierBlock& block, Findings& findings) {
  for (const LocatedText& name : block.subjects) {
    if (is_model_path(name.text)) continue;
    if (std::find(kSubjects.begin(), kSubjects.end(), name.text) != kSubjects.end()) continue;
    findings.report("RF405", contract.source, name.at, name.length,
                    fmt::format("{} is no subject", name.text),
                    suggest(name.text, kSubjects) + "; or the path of a GGUF file");
  }
}

bool is_looser(double bound, const MetricInfo& metric) {
  return metric.larger_is_better ? bound < metric.ceiling : bound > metric.ceiling;
}

// Cosines, shares and the like: nothing is above 1.
bool is_unreachable(double bound, const MetricInfo& metric) {
  return metric.larger_is_better && metric.ceiling <= 1.0 && bound > 1.0;
}

void check_bound(const Contract& contract, const Gate& gate, const MetricInfo& metric,
                 Findings& findings) {
  const auto report = [&](std::string_view rule, const std::string& message,
                          std::string_view help) {
    findings.report(rule, contract.source, gate.bound_at, gate.bound_length, message, help);
  };
  // Zero is meant where nothing else passes: zero differing bits.
  const bool zero_is_meant = metric.ceiling == 0.0 && !metric.larger_is_better;
  const bool is_positive = gate.bound > 0.0 || (gate.bound == 0.0 && zero_is_meant);
  if (!std::isfinite(gate.bound) || !is_positive) {
    report("RF408",
           fmt::format("the gate on {} must be finite and positive, found {}", metric.name,
                       gate.bound),
           "");
  } else if (is_looser(gate.bound, metric)) {
    report(
        "RF409",
        fmt::format("{} {} is looser than the ceiling {}", metric.name, gate.bound, metric.ceiling),
        "a contract may only tighten a gate");
  } else if (is_unreachable(gate.bound, metric)) {
    report("RF410", fmt::format("no {} reaches {}", metric.name, gate.bound), "it is at most 1");
  }
}

void check_gates(const Contract& contract, const FalsifierBlock& block, const FalsifierInfo& info,
                 Findings& findings) {
  std::vector<std::string_view> names;
  for (const MetricInfo& metric : info.metrics) names.push_back(metric.name);
  for (const Gate& gate : block.gates) {
    const auto metric =
        std::find_if(info.metrics.begin(), info.metrics.end(),
                     [&](const MetricInfo& known) { return known.name == gate.metric.text; });
    if (metric == info.metrics.end()) {
      findings.report("RF407", contract.source, gate.metric.at, gate.metric.length,
                      fmt::format("{} measures no {}", info.id, gate.metric.text),
                      suggest(gate.metric.text, names));
    } else {
      check_bound(contract, gate, *metric, findings);
    }
  }
}

void check_faults(const Contract& contract, const FalsifierBlock& block, const RuleContext& context,
                  Findings& findings) {
  const auto check_known = [&](const LocatedText& fault) {
    if (context.find_fault(fault.text) != nullptr) return;
    findings.report("RF412", contract.source, fault.at, fault.length,
                    fmt::format("{} is no fault of the catalogue", fault.text),
                    "`refute list faults` shows them");
  };
  for (const LocatedText& fault : block.must_kill) check_known(fault);
  for (const BlindSpot& spot : block.blind_to) {
    check_known(spot.fault);
    const bool killed =
        std::any_of(block.must_kill.begin(), block.must_kill.end(),
                    [&](const LocatedText& fault) { return fault.text == spot.fault.text; });
    if (killed) {
      findings.report("RF413", contract.source, spot.fault.at, spot.fault.length,
                      fmt::format("{} is in `must_kill` too", spot.fault.text));
    }
  }
}

std::string joined(const std::vector<std::string>& names) {
  constexpr std::size_t kMost = 4;
  std::string text;
  for (std::size_t i = 0; i < names.size() && i < kMost; ++i) {
    text += (i == 0 ? "" : ", ") + names[i];
  }
  return names.size() > kMost ? text + ", ..." : text;
}

void check_must_kill(const Contract& contract, const FalsifierBlock& block,
                     const KillMatrix& matrix, Findings& findings) {
  const std::string& falsifier = block.falsifier.text;
  // Nothing can be shown of a block whose backends host no faults yet.
  const bool measured =
      std::any_of(matrix.rows.begin(), matrix.rows.end(), [&](const FaultRow& row) {
        return std::find(block.backends.begin(), block.backends.end(), row.host) !=
               block.backends.end();
      });
  if (!measured) return;
  for (const LocatedText& fault : block.must_kill) {
    if (matrix.kills_clearly(falsifier, fault.text, block.backends)) continue;
    const bool narrowly = matrix.kills(falsifier, fault.text, block.backends);
    const auto killers = matrix.killers(fault.text);
    findings.report(
        "RF414", contract.source, fault.at, fault.length,
        narrowly ? fmt::format("{} kills {} too narrowly: its threshold is not clear "
                               "of noise and fault",
                               falsifier, fault.text)
                 : fmt::format("the kill matrix does not show that {} kills {} on {}", falsifier,
                               fault.text, joined(block.backend_names, " or ")),
        killers.empty() ? "nothing is shown to kill it" : "it is killed by " + joined(killers));
  }
  if (block.cases < matrix.cases) {
    findings.report(
        "RF417", contract.source, block.falsifier.at, block.falsifier.length,
        fmt::format("{} cases, fewer than the {} of the kill matrix", block.cases, matrix.cases),
        "what must_kill claims was measured with more");
  }
}

void check_blind_spots(const Contract& contract, const FalsifierBlock& block,
                       const KillMatrix& matrix, Findings& findings) {
  for (const BlindSpot& spot : block.blind_to) {
    const LocatedText& fault = spot.fault;
    if (matrix.kills(block.falsifier.text, fault.text, block.backends)) {
      findings.report(
          "RF415", contract.source, fault.at, fault.length,
          fmt::format("the kill matrix shows that {} kills {} on {}", block.falsifier.text,
                      fault.text, joined(block.backend_names, " or ")));
      continue;
    }
    const auto killers = matrix.killers(fault.text);
    const bool named = std::any_of(killers.begin(), killers.end(), [&](const std::string& killer) {
      return spot.reason.find(killer) != std::string::npos;
    });
    if (named) continue;
    findings.report(
        "RF416", contract.source, fault.at, fault.length,
        fmt::format("the reason names no falsifier that kills {}", fault.text),
        killers.empty() ? "nothing is shown to kill it" : "it is killed by " + joined(killers));
  }
}

}  // namespace

const FalsifierInfo* RuleContext::find_falsifier(std::string_view id) const {
  return find_by_id(falsifiers, id);
}

const FaultInfo* RuleContext::find_fault(std::string_view id) const {
  return find_by_id(faults, id);
}

void check_falsifiers(const Contract& contract, const RuleContext& context, Findings& findings) {
  for (const FalsifierBlock& block : contract.falsifiers) {
    const FalsifierInfo* info = context.find_falsifier(block.falsifier.text);
    if (info == nullptr && !block.falsifier.text.empty()) {
      findings.report("RF401", contract.source, block.falsifier.at, block.falsifier.length,
                      fmt::format("no falsifier {} is registered", block.falsifier.text),
                      suggest(block.falsifier.text, ids_of(context.falsifiers)));
    }
    if (info != nullptr) check_backends(contract, block, *info, findings);
    check_subjects(contract, block, findings);
    if (info != nullptr) check_gates(contract, block, *info, findings);
    check_faults(contract, block, context, findings);
    if (info == nullptr || context.kill_matrix == nullptr) continue;
    // The matrix holds no times.
    if (!info->measures_time) check_must_kill(contract, block, *context.kill_matrix, findings);
    check_blind_spots(contract, block, *context.kill_matrix, findings);
  }
}

}  // namespace refute
