#include "validators/status.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "validators/build_info.h"
#include "validators/embedded_files.h"
#include "validators/evidence.h"
#include "validators/shell_words.h"

namespace refute {
namespace {

bool cites(const FalsifierBlock& block, const std::string& acceptance) {
  return std::any_of(block.acceptance.begin(), block.acceptance.end(),
                     [&](const LocatedText& id) { return id.text == acceptance; });
}

std::size_t count(std::span<const CriterionEvidence> criteria, Evidence evidence) {
  return static_cast<std::size_t>(
      std::count_if(criteria.begin(), criteria.end(),
                    [&](const CriterionEvidence& found) { return found.evidence == evidence; }));
}

const CriterionEvidence* first(std::span<const CriterionEvidence> criteria, Evidence evidence) {
  for (const CriterionEvidence& found : criteria) {
    if (found.evidence == evidence) return &found;
  }
  return nullptr;
}

std::string name_of(const CriterionEvidence& criterion) {
  return criterion.block->id.text + " on " + std::string(backend_name(criterion.backend));
}

std::string run_command(const CriterionEvidence& criterion) {
  return fmt::format("{} --backend {}", run_command(*criterion.contract, *criterion.block),
                     backend_name(criterion.backend));
}

// Whether evidence on the backend counts for the stage.
bool counts(const Stage& stage, BackendId backend) {
  return stage.backends.empty() ||
         std::find(stage.backends.begin(), stage.backends.end(), backend) != stage.backends.end();
}

// Gathers the evidence a stage needs; returns the first acceptance without any, or an empty text.
std::string gather(StageReport& report, std::span<const CriterionEvidence> criteria) {
  std::string unproved;
  for (const LocatedText& acceptance : report.stage->needs) {
    bool recorded = false;
    for (const CriterionEvidence& criterion : criteria) {
      if (!counts(*report.stage, criterion.backend)) continue;
      if (!cites(*criterion.block, acceptance.text)) continue;
      recorded = recorded || criterion.evidence != Evidence::kMissing;
      const bool known = std::any_of(
          report.needed.begin(), report.needed.end(), [&](const CriterionEvidence& needed) {
            return needed.block == criterion.block && needed.backend == criterion.backend;
          });
      if (!known) report.needed.push_back(criterion);
    }
    if (!recorded && unproved.empty()) unproved = acceptance.text;
  }
  return unproved;
}

void set(StageReport& report, StageStatus status, std::string sentence, std::string command) {
  report.status = status;
  report.sentence = std::move(sentence);
  report.command = std::move(command);
}

void judge_by_validation(StageReport& report, const StatusBasis& basis) {
  const std::string& path = report.contract->source.path();
  if (basis.invalid_contracts.contains(path)) {
    set(report, StageStatus::kPending, "Its contract does not validate.",
        "refute validate " + path);
  } else {
    set(report, StageStatus::kDischarged, "Its contract validates.", "");
  }
}

void judge_by_records(StageReport& report, std::span<const CriterionEvidence> criteria) {
  const std::string& path = report.contract->source.path();
  if (report.stage->needs.empty()) {
    return set(report, StageStatus::kPending, "It needs no acceptance id, so nothing can prove it.",
               report.stage->from_dialect ? "" : "refute explain unneeded-acceptance");
  }
  const std::string unproved = gather(report, criteria);
  const CriterionEvidence* missing = first(report.needed, Evidence::kMissing);
  if (const CriterionEvidence* refuted = first(report.needed, Evidence::kRefuted)) {
    return set(report, StageStatus::kRefuted, name_of(*refuted) + " was " + refuted->why,
               run_command(*refuted));
  }
  if (!unproved.empty()) {
    return set(report, StageStatus::kPending, "No record speaks of " + unproved + ".",
               missing != nullptr ? run_command(*missing) : "refute validate " + path);
  }
  if (const CriterionEvidence* stale = first(report.needed, Evidence::kStale)) {
    return set(report, StageStatus::kStale, name_of(*stale) + ": " + stale->why + ".",
               run_command(*stale));
  }
  const std::size_t held = count(report.needed, Evidence::kHeld);
  if (missing != nullptr) {
    return set(report, StageStatus::kPartial,
               fmt::format("{} of {} held; {} has no record.", held, report.needed.size(),
                           name_of(*missing)),
               run_command(*missing));
  }
  set(report, StageStatus::kDischarged,
      fmt::format("All that it needs held: {} of {}.", held, held), "");
}

// A discharged stage ships when everything it comes after has; repeated until nothing changes,
// which needs no order and ends on cycles.
void ship(std::vector<StageReport>& stages) {
  std::map<std::string, StageReport*, std::less<>> by_id;
  for (StageReport& report : stages) by_id.emplace(report.stage->id.text, &report);
  bool changed = true;
  while (changed) {
    changed = false;
    for (StageReport& report : stages) {
      if (report.status != StageStatus::kDischarged) continue;
      const StageReport* waits_for = nullptr;
      std::string unknown;
      for (const LocatedText& before : report.stage->after) {
        const auto found = by_id.find(before.text);
        if (found == by_id.end()) {
          unknown = before.text;
        } else if (found->second->status != StageStatus::kShipped) {
          waits_for = found->second;
        }
      }
      if (!unknown.empty()) {
        report.command = "refute status contracts";
      } else if (waits_for == nullptr) {
        report.status = StageStatus::kShipped;
        changed = true;
      }
    }
  }
}

// Says of stages that are discharged and no more what they wait for.
void explain_waiting(StatusBoard& board) {
  for (StageReport& report : board.stages) {
    if (report.status != StageStatus::kDischarged) continue;
    for (const LocatedText& before : report.stage->after) {
      const StageReport* stage = board.find(before.text);
      if (stage != nullptr && stage->status == StageStatus::kShipped) continue;
      report.sentence += fmt::format(
          " It comes after {}, which is {}.", before.text,
          stage == nullptr ? "not among these contracts" : stage_status_name(stage->status));
      if (stage != nullptr) report.command = stage->command;
      break;
    }
  }
}

}  // namespace

StatusBasis default_basis() {
  return {.tree_sha256 = std::string(build_info().tree_sha256),
          .subject_sha256 = embedded_model_sha256(),
          .expected_sha256 = embedded_expectations_sha256(),
          .invalid_contracts = {}};
}

std::string_view evidence_name(Evidence evidence) {
  switch (evidence) {
    case Evidence::kHeld:
      return "held";
    case Evidence::kRefuted:
      return "refuted";
    case Evidence::kStale:
      return "stale";
    case Evidence::kMissing:
      return "missing";
  }
  return "unknown";
}

const StageReport* StatusBoard::find(std::string_view stage_id) const {
  for (const StageReport& report : stages) {
    if (report.stage->id.text == stage_id) return &report;
  }
  return nullptr;
}

StatusBoard derive_statuses(std::span<const Contract> contracts, const RecordStore& store,
                            const StatusBasis& basis) {
  StatusBoard board;
  board.records = store.records.size();
  board.rejected_records = store.rejected;
  for (const Contract& contract : contracts) {
    for (const FalsifierBlock& block : contract.falsifiers) {
      for (const BackendId backend : block.backends) {
        board.criteria.push_back(find_evidence(
            {.contract = &contract, .block = &block, .backend = backend, .why = "", .record = ""},
            store, basis));
      }
    }
  }
  board.other_subjects = evidence_of_other_subjects(board.criteria, store, basis);
  for (const Contract& contract : contracts) {
    for (const Stage& stage : contract.stages) {
      StageReport report{
          .contract = &contract, .stage = &stage, .sentence = "", .command = "", .needed = {}};
      if (stage.proved_by_validation) {
        judge_by_validation(report, basis);
      } else {
        judge_by_records(report, board.criteria);
      }
      board.stages.push_back(std::move(report));
    }
  }
  ship(board.stages);
  explain_waiting(board);
  return board;
}

}  // namespace refute
