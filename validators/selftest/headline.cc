#include "validators/selftest/headline.h"

#include <algorithm>
#include <map>
#include <set>

namespace refute {
namespace {

constexpr double kPopularBound = 0.99;

Headline headline_of(const KillMatrix& matrix, BackendId host) {
  Headline headline;
  headline.host = host;
  std::map<std::string, std::size_t> by_metric;
  for (const FaultRow& row : matrix.rows) {
    if (row.host != host || row.equivalent || row.cells.empty()) continue;
    ++headline.faults;
    headline.all += row.killed() ? 1 : 0;
    std::set<std::string> metrics;
    for (const KillCell& cell : row.cells) {
      if (cell.state != CellState::kKilled) continue;
      for (const KillReading& reading : cell.by) metrics.insert(reading.metric);
    }
    // NaN is no kill: the fault left nothing to take a cosine of.
    headline.logits_cosine += row.logits_cosine < kPopularBound ? 1 : 0;
    for (const std::string& metric : metrics) ++by_metric[metric];
  }
  for (const auto& [metric, kills] : by_metric) headline.metrics.push_back({metric, kills});
  std::stable_sort(headline.metrics.begin(), headline.metrics.end(),
                   [](const auto& a, const auto& b) { return a.kills > b.kills; });
  return headline;
}

}  // namespace

std::vector<Headline> headlines(const KillMatrix& matrix) {
  std::set<BackendId> hosts;
  for (const FaultRow& row : matrix.rows) hosts.insert(row.host);
  std::vector<Headline> list;
  for (const BackendId host : hosts) list.push_back(headline_of(matrix, host));
  return list;
}

}  // namespace refute
