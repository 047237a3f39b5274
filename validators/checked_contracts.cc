#include "validators/checked_contracts.h"

#include <algorithm>
#include <map>
#include <optional>
#include <system_error>
#include <utility>

#include "falsifiers/registry.h"

namespace refute {
namespace {

bool claims_anything(const Contract& contract) {
  return contract.is_ours && !contract.status_mentions.empty();
}

RuleContext every_claim_granted(const KillMatrix* kill_matrix) {
  return {.falsifiers = falsifier_registry(),
          .faults = fault_catalogue(),
          .kill_matrix = kill_matrix,
          .derived_status = [](std::string_view, std::string_view) {
            return std::optional(StageStatus::kShipped);
          }};
}

}  // namespace

ValidateResult validate_unclaimed(std::span<const std::string> paths) {
  return validate_paths(paths, every_claim_granted(&committed_kill_matrix()));
}

ValidateResult validate_unmeasured(std::span<const std::string> paths) {
  return validate_paths(paths, every_claim_granted(nullptr));
}

ValidateResult validate_claims(std::span<const std::string> paths,
                               std::span<const std::filesystem::path> folders) {
  ValidateResult unclaimed = validate_unclaimed(paths);
  if (std::none_of(unclaimed.contracts.begin(), unclaimed.contracts.end(), claims_anything)) {
    return unclaimed;
  }
  StatusBasis basis = default_basis();
  basis.invalid_contracts = invalid_contracts(unclaimed);
  const StatusBoard board = derive_statuses(unclaimed.contracts, load_records(folders), basis);
  std::map<std::pair<std::string, std::string>, StageStatus> derived;
  for (const StageReport& report : board.stages) {
    derived.emplace(std::pair(report.contract->id.text, report.stage->id.text), report.status);
  }
  return validate_paths(
      paths, {.falsifiers = falsifier_registry(),
              .faults = fault_catalogue(),
              .kill_matrix = &committed_kill_matrix(),
              .derived_status = [&](std::string_view contract,
                                    std::string_view stage) -> std::optional<StageStatus> {
                const auto found = derived.find({std::string(contract), std::string(stage)});
                if (found == derived.end()) return std::nullopt;
                return found->second;
              }});
}

std::set<std::string> invalid_contracts(const ValidateResult& result) {
  std::set<std::string> paths;
  for (const Contract& contract : result.contracts) {
    if (!result.is_valid(contract)) paths.insert(contract.source.path());
  }
  return paths;
}

std::vector<std::filesystem::path> record_folders(std::span<const std::string> paths,
                                                  std::span<const std::string> chosen) {
  if (!chosen.empty()) return {chosen.begin(), chosen.end()};
  std::set<std::filesystem::path> folders{kDefaultRecordFolder};
  for (const std::filesystem::path path : paths) {
    std::error_code ignored;
    const bool is_folder = std::filesystem::is_directory(path, ignored);
    folders.insert((is_folder ? path : path.parent_path()) / "evidence");
  }
  return {folders.begin(), folders.end()};
}

}  // namespace refute
