// Contracts read from paths, and checked against the rules, the registry and the records.
#pragma once

#include <filesystem>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "validators/status.h"
#include "validators/validate.h"

namespace refute {

// All rules but those on claimed statuses: what `run` and `status` need, which must work where a
// claim has gone stale.
ValidateResult validate_unclaimed(std::span<const std::string> paths);

// The same without what must_kill and blind_to claim: for the selftest, which measures that.
ValidateResult validate_unmeasured(std::span<const std::string> paths);

// All rules: claimed statuses are held against those derived from the records of `folders`. The
// records are read only where something is claimed.
ValidateResult validate_claims(std::span<const std::string> paths,
                               std::span<const std::filesystem::path> folders);

// Paths of the contracts with errors.
std::set<std::string> invalid_contracts(const ValidateResult& result);

// The folders that hold records: `chosen`, or else evidence/ beside the contracts of `paths` and
// kDefaultRecordFolder.
std::vector<std::filesystem::path> record_folders(std::span<const std::string> paths,
                                                  std::span<const std::string> chosen);

}  // namespace refute
