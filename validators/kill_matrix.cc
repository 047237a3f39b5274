#include "validators/kill_matrix.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

namespace refute {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

template <typename Container, typename Matches>
auto find_where(const Container& container, const Matches& matches) {
  const auto found = std::find_if(container.begin(), container.end(), matches);
  return found == container.end() ? nullptr : &*found;
}

std::string name_of(const FaultRow& row) {
  return fmt::format("{} on {}", row.fault, backend_name(row.host));
}

}  // namespace

std::string_view cell_state_name(CellState state) {
  switch (state) {
    case CellState::kKilled:
      return "killed";
    case CellState::kSurvived:
      return "survived";
    case CellState::kTrapped:
      return "trapped";
    case CellState::kBroken:
      return "broken";
  }
  return "unknown";
}

double distance_from_perfect(double value, bool larger_is_better) {
  return larger_is_better ? 1.0 - value : value;
}

double KillReading::margin() const {
  const double bound = distance_from_perfect(threshold, larger_is_better);
  return bound > 0.0 ? distance_from_perfect(worst, larger_is_better) / bound : kInfinity;
}

double KillCell::margin() const { return by.empty() ? kInfinity : by.front().margin(); }

double ThresholdMargin::geometric_mean() const {
  return noise > 0.0 ? std::sqrt(noise * floor) : floor / 2.0;
}

bool FaultRow::killed() const {
  return std::any_of(cells.begin(), cells.end(),
                     [](const KillCell& cell) { return cell.state == CellState::kKilled; });
}

const KillCell* FaultRow::find(std::string_view falsifier) const {
  return find_where(cells, [&](const KillCell& cell) { return cell.falsifier == falsifier; });
}

const FaultRow* KillMatrix::find(std::string_view fault, BackendId host) const {
  return find_where(rows,
                    [&](const FaultRow& row) { return row.fault == fault && row.host == host; });
}

namespace {

bool is_of(const FaultRow& row, std::string_view fault, std::span<const BackendId> backends) {
  return row.fault == fault &&
         std::find(backends.begin(), backends.end(), row.host) != backends.end();
}

}  // namespace

bool KillMatrix::kills(std::string_view falsifier, std::string_view fault,
                       std::span<const BackendId> backends) const {
  return std::any_of(rows.begin(), rows.end(), [&](const FaultRow& row) {
    const KillCell* cell = is_of(row, fault, backends) ? row.find(falsifier) : nullptr;
    return cell != nullptr && cell->state == CellState::kKilled;
  });
}

namespace {

bool is_separated(double noise, double threshold, double value) {
  // A cosine of 1 in the digits that are kept says nothing.
  if (!(value > threshold) || !(value >= 3.0 * noise)) return false;
  return noise > 0.0 ? threshold * threshold <= noise * value : threshold <= value / 2.0;
}

// Of every falsifier and metric, without floors.
std::map<std::pair<std::string, std::string>, ThresholdMargin> noise_ceilings(
    const std::vector<NoiseReading>& readings) {
  std::map<std::pair<std::string, std::string>, ThresholdMargin> ceilings;
  for (const NoiseReading& reading : readings) {
    ThresholdMargin& margin = ceilings[{reading.falsifier, reading.metric}];
    margin.falsifier = reading.falsifier;
    margin.metric = reading.metric;
    margin.threshold = distance_from_perfect(reading.threshold, reading.larger_is_better);
    margin.noise =
        std::max(margin.noise, distance_from_perfect(reading.noise, reading.larger_is_better));
    margin.floor = kInfinity;
  }
  return ceilings;
}

}  // namespace

bool KillMatrix::kills_clearly(std::string_view falsifier, std::string_view fault,
                               std::span<const BackendId> backends) const {
  const auto ceilings = noise_ceilings(noise);
  for (const FaultRow& row : rows) {
    const KillCell* cell = is_of(row, fault, backends) ? row.find(falsifier) : nullptr;
    if (cell == nullptr || cell->state != CellState::kKilled) continue;
    if (cell->by.empty()) return true;
    for (const KillReading& reading : cell->by) {
      const auto found = ceilings.find({cell->falsifier, reading.metric});
      if (found == ceilings.end()) continue;
      const double value = distance_from_perfect(reading.worst, reading.larger_is_better);
      if (is_separated(found->second.noise, found->second.threshold, value)) return true;
    }
  }
  return false;
}

std::vector<ThresholdMargin> KillMatrix::margins() const {
  auto ceilings = noise_ceilings(noise);
  for (const FaultRow& row : rows) {
    for (const KillCell& cell : row.cells) {
      if (cell.state != CellState::kKilled) continue;
      for (const KillReading& reading : cell.by) {
        const auto found = ceilings.find({cell.falsifier, reading.metric});
        if (found == ceilings.end()) continue;
        ThresholdMargin& margin = found->second;
        const double value = distance_from_perfect(reading.worst, reading.larger_is_better);
        if (!is_separated(margin.noise, margin.threshold, value)) continue;
        if (!(value < margin.floor)) continue;
        margin.floor = value;
        margin.fault = row.fault;
      }
    }
  }
  std::vector<ThresholdMargin> list;
  for (auto& [key, margin] : ceilings) list.push_back(std::move(margin));
  return list;
}

std::vector<std::string> KillMatrix::killers(std::string_view fault) const {
  std::map<std::string, double> margins;
  for (const FaultRow& row : rows) {
    if (row.fault != fault) continue;
    for (const KillCell& cell : row.cells) {
      if (cell.state != CellState::kKilled) continue;
      double& margin = margins[cell.falsifier];
      margin = std::max(margin, cell.margin());
    }
  }
  std::vector<std::string> names;
  for (const auto& [name, margin] : margins) names.push_back(name);
  std::stable_sort(names.begin(), names.end(), [&](const std::string& a, const std::string& b) {
    return margins[a] > margins[b];
  });
  return names;
}

std::vector<std::string> lost_kills(const KillMatrix& committed, const KillMatrix& measured,
                                    bool partial) {
  std::set<BackendId> hosts;
  for (const FaultRow& row : measured.rows) hosts.insert(row.host);
  std::vector<std::string> lost;
  for (const FaultRow& before : committed.rows) {
    // A backend that this machine lacks was not measured.
    if (!hosts.contains(before.host)) continue;
    const FaultRow* now = measured.find(before.fault, before.host);
    if (now == nullptr) {
      if (!partial) lost.push_back(name_of(before) + " is measured no more");
      continue;
    }
    for (const KillCell& cell : before.cells) {
      if (cell.state != CellState::kKilled) continue;
      const KillCell* now_cell = now->find(cell.falsifier);
      // With a filter, some falsifiers were not tried.
      if (now_cell == nullptr && partial) continue;
      if (now_cell == nullptr || now_cell->state != CellState::kKilled) {
        lost.push_back(fmt::format(
            "{} no longer kills {}: {}", cell.falsifier, name_of(before),
            now_cell == nullptr ? "does not reach it" : cell_state_name(now_cell->state)));
      }
    }
  }
  for (const NoiseReading& before : committed.noise) {
    const NoiseReading* now = find_where(measured.noise, [&](const NoiseReading& reading) {
      return reading.falsifier == before.falsifier && reading.backend == before.backend &&
             reading.metric == before.metric;
    });
    if (now == nullptr) continue;
    const double was = distance_from_perfect(before.threshold, before.larger_is_better);
    const double is = distance_from_perfect(now->threshold, now->larger_is_better);
    // Written to 4 digits.
    if (is > was + 1e-3 * was) {
      lost.push_back(fmt::format("{}: the threshold of {} was loosened from {:.4g} to {:.4g}",
                                 before.falsifier, before.metric, before.threshold,
                                 now->threshold));
    }
  }
  return lost;
}

std::vector<std::string> gained_kills(const KillMatrix& committed, const KillMatrix& measured) {
  std::vector<std::string> gained;
  for (const FaultRow& row : measured.rows) {
    const FaultRow* before = committed.find(row.fault, row.host);
    if (before == nullptr) {
      gained.push_back(name_of(row) + " is not in the committed matrix");
      continue;
    }
    for (const KillCell& cell : row.cells) {
      if (cell.state != CellState::kKilled) continue;
      const KillCell* known = before->find(cell.falsifier);
      if (known == nullptr || known->state != CellState::kKilled) {
        gained.push_back(cell.falsifier + " now kills " + name_of(row));
      }
    }
  }
  return gained;
}

}  // namespace refute
