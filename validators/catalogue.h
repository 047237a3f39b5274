// Everything that has an id and a meaning: what `refute list` lists and `refute explain` explains.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "validators/contract.h"

namespace refute {

struct CatalogueEntry {
  std::string kind;     // "falsifier"
  std::string id;       // "router.weights_sum_to_one"
  std::string summary;  // One line.
  // Further headings with their texts, which may have several lines.
  std::vector<std::pair<std::string, std::string>> details;
};

// What can be listed: falsifiers, rules, faults, mutants, statuses, verdicts, backends, types,
// exit-codes and, from contracts: contracts, stages, acceptance, criteria.
std::span<const std::string_view> catalogue_kinds();
bool comes_from_contracts(std::string_view kind);

// Precondition: `kind` is one of catalogue_kinds(). Entries of contracts in their order, others
// sorted or in the order of their table.
std::vector<CatalogueEntry> list_entries(std::string_view kind,
                                         std::span<const Contract> contracts);

// All entries of that id, which is matched without regard to case. Rules are also found by name.
std::vector<CatalogueEntry> find_entries(std::string_view id, std::span<const Contract> contracts);

// "; did you mean `x`?", or an empty text.
std::string suggest_entry(std::string_view id, std::span<const Contract> contracts);

}  // namespace refute
