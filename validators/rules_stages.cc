// RF301 to RF307 and RF309: acceptance criteria, stages and claimed statuses.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "validators/rules_check.h"
#include "validators/suggest.h"

namespace refute {
namespace {

std::vector<std::string_view> acceptance_ids(const Contract& contract) {
  std::vector<std::string_view> ids;
  for (const Acceptance& criterion : contract.acceptance) ids.push_back(criterion.id.text);
  return ids;
}

std::vector<std::string_view> stage_ids(const Contract& contract) {
  std::vector<std::string_view> ids;
  for (const Stage& stage : contract.stages) ids.push_back(stage.id.text);
  return ids;
}

void check_acceptance_cited(const Contract& contract, Findings& findings) {
  std::set<std::string_view> attacked;
  std::set<std::string_view> staged;
  for (const FalsifierBlock& block : contract.falsifiers) {
    for (const LocatedText& id : block.acceptance) attacked.insert(id.text);
  }
  for (const Stage& stage : contract.stages) {
    for (const LocatedText& id : stage.needs) staged.insert(id.text);
  }
  for (const Acceptance& criterion : contract.acceptance) {
    const LocatedText& id = criterion.id;
    if (id.text.empty()) continue;
    if (!attacked.contains(id.text)) {
      findings.report("RF301", contract.source, id.at, id.length,
                      fmt::format("no falsifier tries to break {}", id.text),
                      "cite it in the `acceptance` of a falsifier");
    }
    if (!staged.contains(id.text)) {
      findings.report("RF302", contract.source, id.at, id.length,
                      fmt::format("no stage needs {}", id.text),
                      "cite it in the `needs` of a stage");
    }
  }
}

void check_acceptance_known(const Contract& contract, std::span<const LocatedText> cited,
                            Findings& findings) {
  for (const LocatedText& id : cited) {
    if (contract.find_acceptance(id.text) != nullptr) continue;
    findings.report("RF303", contract.source, id.at, id.length,
                    fmt::format("{} is no acceptance id of this contract", id.text),
                    suggest(id.text, acceptance_ids(contract)));
  }
}

// Whether some falsifier tries the criterion on one of the stage's backends.
bool is_tried(const Contract& contract, const Stage& stage, std::string_view acceptance_id) {
  return std::any_of(
      contract.falsifiers.begin(), contract.falsifiers.end(), [&](const FalsifierBlock& block) {
        return std::any_of(block.acceptance.begin(), block.acceptance.end(),
                           [&](const LocatedText& id) { return id.text == acceptance_id; }) &&
               std::find_first_of(stage.backends.begin(), stage.backends.end(),
                                  block.backends.begin(),
                                  block.backends.end()) != stage.backends.end();
      });
}

void check_needs_tried(const Contract& contract, const Stage& stage, Findings& findings) {
  if (stage.backends.empty()) return;
  std::string names;
  for (const BackendId id : stage.backends) {
    names += (names.empty() ? "" : ", ") + std::string(backend_name(id));
  }
  for (const LocatedText& id : stage.needs) {
    if (contract.find_acceptance(id.text) == nullptr || is_tried(contract, stage, id.text))
      continue;
    findings.report("RF309", contract.source, id.at, id.length,
                    fmt::format("no falsifier tries {} on {}", id.text, names),
                    "add the backend to a falsifier of it, or leave it out of this stage");
  }
}

// Depth first; a stage that is met again while it is open closes a cycle.
class CycleFinder {
 public:
  CycleFinder(const Contract& contract, Findings& findings)
      : contract_(contract), findings_(findings) {}

  void visit(const Stage& stage) {
    if (!visited_.insert(stage.id.text).second) return;
    open_.push_back(stage.id.text);
    for (const LocatedText& before : stage.after) {
      const auto again = std::find(open_.begin(), open_.end(), before.text);
      if (again != open_.end()) {
        std::string path = before.text;
        for (auto id = open_.rbegin(); id.base() != again; ++id) path += " before " + *id;
        findings_.report("RF305", contract_.source, before.at, before.length,
                         fmt::format("the order of stages has a cycle: {}", path));
      } else if (const Stage* next = contract_.find_stage(before.text)) {
        visit(*next);
      }
    }
    open_.pop_back();
  }

 private:
  const Contract& contract_;
  Findings& findings_;
  std::set<std::string> visited_;
  std::vector<std::string> open_;
};

// `open` holds the stages asked about on the way here, so that a cycle ends.
StageStatus status_of(const Contract& contract, const Stage& stage, bool contract_is_valid,
                      const RuleContext& context, std::set<std::string_view>& open) {
  if (context.derived_status) {
    if (const auto derived = context.derived_status(contract.id.text, stage.id.text)) {
      return *derived;
    }
  }
  if (!stage.proved_by_validation || !contract_is_valid) return StageStatus::kPending;
  if (!open.insert(stage.id.text).second) return StageStatus::kPending;
  const bool all_shipped =
      std::all_of(stage.after.begin(), stage.after.end(), [&](const LocatedText& before) {
        const Stage* other = contract.find_stage(before.text);
        return other != nullptr && status_of(contract, *other, contract_is_valid, context, open) ==
                                       StageStatus::kShipped;
      });
  open.erase(stage.id.text);
  return all_shipped ? StageStatus::kShipped : StageStatus::kDischarged;
}

void check_claim(const Contract& contract, const LocatedText& claim, StageStatus derived,
                 std::string_view what, Findings& findings) {
  const auto claimed = parse_claimed_status(claim.text);
  if (!claimed || stage_status_rank(*claimed) <= stage_status_rank(derived)) return;
  findings.report("RF307", contract.source, claim.at, claim.length,
                  fmt::format("{} claims {}, but its records show {}", what, claim.text,
                              stage_status_name(derived)),
                  fmt::format("claim {}, or run what is missing: `refute status` names it",
                              stage_status_name(derived)));
}

}  // namespace

void check_stages(const Contract& contract, Findings& findings) {
  if (!contract.is_ours) return;
  check_acceptance_cited(contract, findings);
  for (const FalsifierBlock& block : contract.falsifiers) {
    check_acceptance_known(contract, block.acceptance, findings);
  }
  CycleFinder cycles(contract, findings);
  for (const Stage& stage : contract.stages) {
    if (!stage.from_dialect) check_acceptance_known(contract, stage.needs, findings);
    check_needs_tried(contract, stage, findings);
    for (const LocatedText& before : stage.after) {
      if (contract.find_stage(before.text) != nullptr) continue;
      findings.report("RF304", contract.source, before.at, before.length,
                      fmt::format("{} is no stage of this contract", before.text),
                      suggest(before.text, stage_ids(contract)));
    }
    cycles.visit(stage);
  }
}

StageStatus stage_status(const Contract& contract, const Stage& stage, bool contract_is_valid,
                         const RuleContext& context) {
  std::set<std::string_view> open;
  return status_of(contract, stage, contract_is_valid, context, open);
}

StageStatus contract_status(const Contract& contract, bool contract_is_valid,
                            const RuleContext& context) {
  if (contract.stages.empty()) return StageStatus::kPending;
  int lowest = stage_status_rank(StageStatus::kShipped);
  int highest = stage_status_rank(StageStatus::kPending);
  for (const Stage& stage : contract.stages) {
    const int rank = stage_status_rank(stage_status(contract, stage, contract_is_valid, context));
    lowest = std::min(lowest, rank);
    highest = std::max(highest, rank);
  }
  if (lowest >= stage_status_rank(StageStatus::kShipped)) return StageStatus::kShipped;
  if (lowest >= stage_status_rank(StageStatus::kDischarged)) return StageStatus::kDischarged;
  const bool some = highest > stage_status_rank(StageStatus::kPending);
  return some ? StageStatus::kPartial : StageStatus::kPending;
}

void check_statuses(const Contract& contract, const RuleContext& context, Findings& findings) {
  if (!contract.is_ours) return;
  const bool is_valid = findings.errors_in(contract.source.path()) == 0;
  for (const Stage& stage : contract.stages) {
    if (!stage.claimed_status) continue;
    check_claim(contract, *stage.claimed_status, stage_status(contract, stage, is_valid, context),
                fmt::format("stage {}", stage.id.text), findings);
  }
  if (contract.claimed_status) {
    check_claim(contract, *contract.claimed_status, contract_status(contract, is_valid, context),
                "the contract", findings);
  }
  // Elsewhere, in blocks of the dialect say, a status speaks of the whole contract.
  const auto is_at = [](const std::optional<LocatedText>& claim, const LocatedText& mention) {
    return claim && claim->at == mention.at;
  };
  for (const LocatedText& mention : contract.status_mentions) {
    const bool is_checked =
        is_at(contract.claimed_status, mention) ||
        std::any_of(contract.stages.begin(), contract.stages.end(),
                    [&](const Stage& stage) { return is_at(stage.claimed_status, mention); });
    if (is_checked) continue;
    check_claim(contract, mention, contract_status(contract, is_valid, context),
                "a status outside of the stages", findings);
  }
}

}  // namespace refute
