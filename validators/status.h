// The status of every stage, derived from records: never read from a contract.
#pragma once

#include <set>
#include <span>
#include <string>
#include <vector>

#include "validators/contract.h"
#include "validators/record_store.h"
#include "validators/stage_status.h"

namespace refute {

// What records must be bound to in order to count.
struct StatusBasis {
  std::string tree_sha256;                  // Of this build.
  std::string subject_sha256;               // The embedded model.
  std::string expected_sha256;              // Its expectations.
  std::set<std::string> invalid_contracts;  // Paths of the files that do not validate.
};

// The basis of this binary, without invalid contracts.
StatusBasis default_basis();

enum class Evidence {
  kHeld,
  kRefuted,  // Also gave_up and error: tried, and did not hold.
  kStale,    // Only records of something that has changed since.
  kMissing,
};
std::string_view evidence_name(Evidence evidence);  // "held"

// What the records say of one criterion on one backend.
struct CriterionEvidence {
  const Contract* contract = nullptr;
  const FalsifierBlock* block = nullptr;
  BackendId backend = BackendId::kOracle;
  Evidence evidence = Evidence::kMissing;
  std::string why;     // For everything but kHeld.
  std::string record;  // The file that says so; empty when there is none.
};

struct StageReport {
  const Contract* contract = nullptr;
  const Stage* stage = nullptr;
  StageStatus status = StageStatus::kPending;
  std::string sentence;  // Why it is no further.
  std::string command;   // What gets it further; empty when nothing is left to do.
  std::vector<CriterionEvidence> needed;
};

struct StatusBoard {
  std::vector<StageReport> stages;          // In the order of the contracts and their stages.
  std::vector<CriterionEvidence> criteria;  // Every one on every backend it lists.
  std::size_t records = 0;
  std::vector<Error> rejected_records;
  std::vector<std::string> other_subjects;  // "criterion on backend: verdict for sha256 ..."

  // Null when there is no such stage. Stage ids are unique among valid contracts.
  const StageReport* find(std::string_view stage_id) const;
};

// The newest record whose hashes match decides; where none matches, the newest makes the criterion
// stale. Records that claim to have held with fewer cases, other bounds or fewer metrics than asked
// for are stale too; a refutation counts however few cases it took. not_run is no evidence.
// The contracts must outlive the board.
StatusBoard derive_statuses(std::span<const Contract> contracts, const RecordStore& store,
                            const StatusBasis& basis);

// Why a recorded result does not speak for this block on this basis; empty when it does.
std::string why_stale(const RecordedResult& result, const std::string& recorded_tree_sha256,
                      const Contract& contract, const FalsifierBlock& block,
                      const StatusBasis& basis);

}  // namespace refute
