#include "validators/catalogue_faults.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "falsifiers/fault_catalogue.h"
#include "validators/kill_matrix.h"

namespace refute {
namespace {

std::string joined(const std::vector<std::string>& parts, const char* separator) {
  return parts.empty() ? "nothing" : fmt::format("{}", fmt::join(parts, separator));
}

std::string kind_text(FaultKind kind) {
  switch (kind) {
    case FaultKind::kSeeded:
      return "a wrong computation";
    case FaultKind::kEquivalent:
      return "equivalent: every falsifier must hold";
    case FaultKind::kBadFile:
      return "a fault of reading files, shown by bad files";
    case FaultKind::kGateMutant:
      return "a fault of the judges: the mutants of `refute list mutants`";
  }
  return "";
}

std::string backends_text(std::span<const BackendId> backends) {
  std::vector<std::string> names;
  for (const BackendId id : backends) names.emplace_back(backend_name(id));
  return joined(names, ", ");
}

std::string kill_text(const FaultRow& row, const KillCell& cell) {
  const std::string place = fmt::format("{} on {}", cell.falsifier, backend_name(row.host));
  if (cell.by.empty()) return place + ": by its check";
  const KillReading& reading = cell.by.front();
  return fmt::format("{}: {} {:.3g}, the bound is {:.3g}", place, reading.metric, reading.worst,
                     reading.threshold);
}

std::string kills_text(std::string_view fault) {
  std::vector<std::string> lines;
  for (const FaultRow& row : committed_kill_matrix().rows) {
    if (row.fault != fault) continue;
    for (const KillCell& cell : row.cells) {
      if (cell.state == CellState::kKilled) lines.push_back(kill_text(row, cell));
    }
  }
  return joined(lines, "\n");
}

std::string blind_text(std::string_view fault) {
  std::vector<std::string> lines;
  for (const FaultRow& row : committed_kill_matrix().rows) {
    if (row.fault != fault) continue;
    for (const KillCell& cell : row.cells) {
      if (cell.state == CellState::kKilled) continue;
      lines.push_back(fmt::format("{} on {}{}", cell.falsifier, backend_name(row.host),
                                  cell.state == CellState::kSurvived
                                      ? ""
                                      : fmt::format(" ({})", cell_state_name(cell.state))));
    }
  }
  return joined(lines, "\n");
}

std::string cosine_text(std::string_view fault) {
  std::vector<std::string> parts;
  for (const FaultRow& row : committed_kill_matrix().rows) {
    if (row.fault != fault) continue;
    if (std::isnan(row.logits_cosine)) {
      parts.push_back(fmt::format("no logits on {}", backend_name(row.host)));
    } else {
      parts.push_back(
          fmt::format("{:.6f} on {}: {}", row.logits_cosine, backend_name(row.host),
                      row.logits_cosine < 0.99 ? "cosine >= 0.99 sees it" : "it misses it"));
    }
  }
  return joined(parts, "\n");
}

// Ids of the faults with a cell of the falsifier that fits, each once.
std::string faults_where(std::string_view falsifier,
                         const std::function<bool(const KillCell&)>& fits) {
  std::vector<std::string> ids;
  for (const FaultRow& row : committed_kill_matrix().rows) {
    const KillCell* cell = row.find(falsifier);
    if (cell == nullptr || !fits(*cell)) continue;
    if (ids.empty() || ids.back() != row.fault) ids.push_back(row.fault);
  }
  return joined(ids, ", ");
}

}  // namespace

std::vector<CatalogueEntry> fault_entries() {
  std::vector<CatalogueEntry> entries;
  for (const FaultInfo& fault : fault_catalogue()) {
    CatalogueEntry entry{"fault", std::string(fault.id), std::string(fault.title), {}};
    const auto add = [&](const char* heading, std::string text) {
      if (!text.empty()) entry.details.emplace_back(heading, std::move(text));
    };
    add("kind", kind_text(fault.kind));
    add("sits in", std::string(fault.place));
    add("hosted on", backends_text(fault.hosts));
    if (!fault.waits_for.empty()) add("waits for", backends_text(fault.waits_for));
    add("equivalent because", std::string(fault.proof));
    add("detected by", std::string(fault.detected_by));
    add("missed by", std::string(fault.missed_by));
    if (!fault.hosts.empty()) {
      add("killed by, as measured", kills_text(fault.id));
      add("reached and not seen by, as measured", blind_text(fault.id));
      add("lowest cosine of the logits with and without it", cosine_text(fault.id));
      add("try it", fmt::format("refute selftest --fault {}", fault.id));
    }
    entries.push_back(std::move(entry));
  }
  return entries;
}

std::string faults_killed_by(std::string_view falsifier) {
  return faults_where(falsifier,
                      [](const KillCell& cell) { return cell.state == CellState::kKilled; });
}

std::string faults_missed_by(std::string_view falsifier) {
  return faults_where(falsifier,
                      [](const KillCell& cell) { return cell.state != CellState::kKilled; });
}

std::string margins_of(std::string_view falsifier) {
  std::vector<std::string> lines;
  for (const ThresholdMargin& margin : committed_kill_matrix().margins()) {
    if (margin.falsifier != falsifier) continue;
    lines.push_back(
        fmt::format("{}: {:.2g} < {:.2g} < {}", margin.metric, margin.noise, margin.threshold,
                    margin.fault.empty() ? "no fault clear of it"
                                         : fmt::format("{:.2g} ({})", margin.floor, margin.fault)));
  }
  return joined(lines, "\n");
}

}  // namespace refute
