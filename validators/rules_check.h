// Holding contracts against the rules that need more than one value: citations, versions, statuses,
// the registry and the fault catalogue.
#pragma once

#include <functional>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>

#include "falsifiers/falsifier.h"
#include "falsifiers/fault_catalogue.h"
#include "validators/contract.h"
#include "validators/diagnostic.h"
#include "validators/kill_matrix.h"
#include "validators/stage_status.h"

namespace refute {

// What the rules hold contracts against.
struct RuleContext {
  std::span<const FalsifierInfo> falsifiers;  // falsifier_registry(), or a test's own.
  std::span<const FaultInfo> faults;          // fault_catalogue(), or a test's own.
  const KillMatrix* kill_matrix = nullptr;    // Null: what kills what is not checked.

  // The status derived from records, by contract and stage id; nullopt or no function: no record.
  std::function<std::optional<StageStatus>(std::string_view contract, std::string_view stage)>
      derived_status;

  // Null when there is none of that id.
  const FalsifierInfo* find_falsifier(std::string_view id) const;
  const FaultInfo* find_fault(std::string_view id) const;
};

// The status of a stage as the rules see it: the derived one; without a record, a stage with
// `evidence: validation` is DISCHARGED (SHIPPED when all it comes after are) if its contract has no
// error, and every other stage is PENDING.
StageStatus stage_status(const Contract& contract, const Stage& stage, bool contract_is_valid,
                         const RuleContext& context);

// SHIPPED or DISCHARGED when every stage is at least that, PARTIAL when some stage is above
// PENDING.
StageStatus contract_status(const Contract& contract, bool contract_is_valid,
                            const RuleContext& context);

// The rules on one contract, but for those on statuses. Those that need a registry, stages or
// acceptance apply to contracts of ours.
void check_versions(const Contract& contract, Findings& findings);
void check_stages(const Contract& contract, Findings& findings);
void check_falsifiers(const Contract& contract, const RuleContext& context, Findings& findings);

// Claimed statuses. Runs after all other rules, since a contract with an error proves nothing.
void check_statuses(const Contract& contract, const RuleContext& context, Findings& findings);

// The rules on all contracts of a run: ids are unique, dependencies are there. `beside` holds the
// ids of contracts that lie beside those of the run.
void check_run(std::span<const Contract> contracts, const std::set<std::string>& beside,
               Findings& findings);

// Every registered falsifier is cited by some contract of `folder`.
void check_all_cited(std::span<const Contract> contracts, const std::string& folder,
                     const RuleContext& context, Findings& findings);

}  // namespace refute
