#include "validators/selftest/selftest_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "falsifiers/fault_catalogue.h"
#include "validators/mutant_catalogue.h"
#include "validators/selftest/headline.h"
#include "validators/table.h"

namespace refute {
namespace {

std::size_t kills_of(const FaultRow& row) {
  return static_cast<std::size_t>(
      std::count_if(row.cells.begin(), row.cells.end(),
                    [](const KillCell& cell) { return cell.state == CellState::kKilled; }));
}

const KillCell* best_kill(const FaultRow& row) {
  const KillCell* best = nullptr;
  for (const KillCell& cell : row.cells) {
    if (cell.state != CellState::kKilled) continue;
    if (best == nullptr || cell.margin() > best->margin()) best = &cell;
  }
  return best;
}

std::string margin_text(double margin) {
  return std::isfinite(margin) ? fmt::format("x {:.2g}", margin) : "by a check";
}

Cell verdict_cell(const FaultRow* row) {
  if (row == nullptr) return {"-", Paint::kFaint};
  if (row->cells.empty() || row->hits == 0) return {"UNREACHED", Paint::kBad};
  const KillCell* best = best_kill(*row);
  if (row->equivalent) {
    return best == nullptr ? Cell{fmt::format("passes all {}", row->cells.size()), Paint::kGood}
                           : Cell{"KILLED by " + best->falsifier, Paint::kBad};
  }
  if (best == nullptr) return {fmt::format("SURVIVED {}", row->cells.size()), Paint::kBad};
  return {fmt::format("{:>2} of {:>2}, {} {}", kills_of(*row), row->cells.size(), best->falsifier,
                      margin_text(best->margin())),
          Paint::kGood};
}

std::vector<BackendId> hosts_of(const KillMatrix& matrix) {
  std::vector<BackendId> hosts;
  for (const BackendId id : kAllBackends) {
    const bool there = std::any_of(matrix.rows.begin(), matrix.rows.end(),
                                   [id](const FaultRow& row) { return row.host == id; });
    if (there) hosts.push_back(id);
  }
  return hosts;
}

Table fault_table(const KillMatrix& matrix) {
  const auto hosts = hosts_of(matrix);
  std::vector<std::string> header = {"fault", "seeded"};
  for (const BackendId host : hosts) {
    header.push_back(fmt::format("on {}: kills, the widest", backend_name(host)));
  }
  Table table(header);
  for (const FaultInfo& fault : fault_catalogue()) {
    std::vector<Cell> cells = {{std::string(fault.id)}, {std::string(fault.title)}};
    bool any = false;
    for (const BackendId host : hosts) {
      const FaultRow* row = matrix.find(fault.id, host);
      any = any || row != nullptr;
      cells.push_back(verdict_cell(row));
    }
    if (any) table.add_row(std::move(cells));
  }
  return table;
}

Table mutant_table(const std::vector<MutantOutcome>& mutants) {
  Table table({"mutant", "what is broken", "turns red"});
  const auto catalogue = mutant_catalogue();
  for (const MutantOutcome& mutant : mutants) {
    const auto info = std::find_if(catalogue.begin(), catalogue.end(),
                                   [&](const MutantInfo& known) { return known.id == mutant.id; });
    const std::size_t red = mutant.tried - mutant.green.size();
    table.add_row(
        {{mutant.id},
         {info == catalogue.end() ? "" : std::string(info->title)},
         {fmt::format("{} of {}", red, mutant.tried), mutant.red() ? Paint::kGood : Paint::kBad}});
  }
  return table;
}

Table headline_table(const KillMatrix& matrix) {
  const auto lines = headlines(matrix);
  std::vector<std::string> header = {"killed by"};
  for (const Headline& line : lines) {
    header.push_back(fmt::format("on {}, of {} faults", backend_name(line.host), line.faults));
  }
  Table table(header);
  const auto row = [&](const std::string& name, const auto& count) {
    std::vector<Cell> cells = {{name}};
    for (const Headline& line : lines) cells.push_back({std::to_string(count(line))});
    table.add_row(std::move(cells));
  };
  row("cosine >= 0.99 on logits", [](const Headline& line) { return line.logits_cosine; });
  std::map<std::string, std::size_t> metrics;
  for (const Headline& line : lines) {
    for (const MetricKills& metric : line.metrics) metrics[metric.metric] += metric.kills;
  }
  std::vector<std::string> names;
  for (const auto& [name, kills] : metrics) names.push_back(name);
  std::stable_sort(names.begin(), names.end(),
                   [&](const auto& a, const auto& b) { return metrics[a] > metrics[b]; });
  for (const std::string& name : names) {
    row(name, [&](const Headline& line) {
      const auto found =
          std::find_if(line.metrics.begin(), line.metrics.end(),
                       [&](const MetricKills& kills) { return kills.metric == name; });
      return found == line.metrics.end() ? std::size_t{0} : found->kills;
    });
  }
  row("all gates together", [](const Headline& line) { return line.all; });
  return table;
}

std::string list_of(const char* heading, const std::vector<std::string>& items) {
  if (items.empty()) return "";
  std::string text = fmt::format("\n{} ({}):\n", heading, items.size());
  for (const std::string& item : items) text += "  - " + item + "\n";
  return text;
}

std::string problems(const SelftestReport& report) {
  const SelftestResult& result = report.result;
  std::string text = list_of("Does not hold without a fault", result.broken_baselines) +
                     list_of("UNREACHED", result.unreached) +
                     list_of("Survived everything", result.survivors) +
                     list_of("Equivalent, and yet refuted", result.false_kills) +
                     list_of("Lost against the committed matrix", report.lost) +
                     list_of("Gained: the committed matrix does not show", report.gained);
  for (const MutantOutcome& mutant : report.mutants) {
    if (mutant.tried == 0) text += fmt::format("\nMutant {} was applied nowhere\n", mutant.id);
    text += list_of(("Mutant " + mutant.id + " stays green").c_str(), mutant.green);
  }
  return text;
}

std::string summary(const SelftestReport& report) {
  const KillMatrix& matrix = report.result.matrix;
  std::size_t seeded = 0;
  std::size_t killed = 0;
  std::size_t equivalent = 0;
  for (const FaultRow& row : matrix.rows) {
    equivalent += row.equivalent ? 1 : 0;
    seeded += row.equivalent ? 0 : 1;
    killed += !row.equivalent && row.killed() ? 1 : 0;
  }
  std::string waiting;
  const auto red = std::count_if(report.mutants.begin(), report.mutants.end(),
                                 [](const MutantOutcome& mutant) { return mutant.red(); });
  return fmt::format(
      "{} of {} faults killed, {} equivalent ones, {} unreached; {} of {} mutants turn red; {} "
      "attempts in {:.1f} s",
      killed, seeded, equivalent, report.result.unreached.size(), red, report.mutants.size(),
      report.result.attempts, static_cast<double>(report.result.duration_us) * 1e-6);
}

std::string human(const SelftestReport& report, Style style) {
  const KillMatrix& matrix = report.result.matrix;
  std::string text =
      fmt::format("On {} with seeds {}\n\n", matrix.subject, fmt::join(matrix.seeds, ", "));
  text += fault_table(matrix).text(style);
  if (!report.mutants.empty()) text += "\n" + mutant_table(report.mutants).text(style);
  text += "\n" + headline_table(matrix).text(style);
  text += problems(report);
  if (!report.compared) {
    text += "\nThe committed matrix is of another subject: not compared\n";
  }
  return text + "\n" + paint(style, report.passed() ? Paint::kGood : Paint::kBad, summary(report)) +
         "\n";
}

std::string markdown(const SelftestReport& report) {
  std::string text = fault_table(report.result.matrix).markdown();
  if (!report.mutants.empty()) text += "\n" + mutant_table(report.mutants).markdown();
  text += "\n" + headline_table(report.result.matrix).markdown();
  return text + problems(report) + "\n" + summary(report) + "\n";
}

std::string json_text(const SelftestReport& report) {
  using nlohmann::json;
  json mutants = json::array();
  for (const MutantOutcome& mutant : report.mutants) {
    mutants.push_back({{"id", mutant.id},
                       {"tried", mutant.tried},
                       {"green", mutant.green},
                       {"red", mutant.red()}});
  }
  json lines = json::array();
  for (const Headline& line : headlines(report.result.matrix)) {
    json metrics = json::object();
    for (const MetricKills& metric : line.metrics) metrics[metric.metric] = metric.kills;
    lines.push_back({{"host", backend_name(line.host)},
                     {"faults", line.faults},
                     {"logits_cosine_0.99", line.logits_cosine},
                     {"metrics", metrics},
                     {"all", line.all}});
  }
  return json{{"passed", report.passed()},
              {"broken_baselines", report.result.broken_baselines},
              {"unreached", report.result.unreached},
              {"survivors", report.result.survivors},
              {"false_kills", report.result.false_kills},
              {"lost", report.lost},
              {"gained", report.gained},
              {"mutants", mutants},
              {"headline", lines},
              {"attempts", report.result.attempts},
              {"cost_us", report.result.cost_us},
              {"duration_us", report.result.duration_us},
              {"matrix", json::parse(write_kill_matrix(report.result.matrix))}}
             .dump(1) +
         "\n";
}

}  // namespace

bool SelftestReport::passed() const {
  return result.all_killed() && lost.empty() &&
         std::all_of(mutants.begin(), mutants.end(),
                     [](const MutantOutcome& mutant) { return mutant.red(); });
}

std::string render_selftest(const SelftestReport& report, Format format, Style style) {
  switch (format) {
    case Format::kJson:
      return json_text(report);
    case Format::kMarkdown:
      return markdown(report);
    default:
      return human(report, style);
  }
}

}  // namespace refute
