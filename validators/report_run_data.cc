#include "validators/report_run_data.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "falsifiers/fault_catalogue.h"
#include "validators/build_info.h"
#include "validators/record_json.h"
#include "validators/shell_words.h"

namespace refute {
namespace {

using Json = nlohmann::ordered_json;

std::size_t count(const RunReport& report, VerdictKind kind) {
  return static_cast<std::size_t>(
      std::count_if(report.outcomes.begin(), report.outcomes.end(),
                    [&](const Outcome& outcome) { return outcome.verdict.kind == kind; }));
}

using BackendCounts = std::map<BackendId, std::size_t>;

std::size_t total_of(const BackendCounts& counts) {
  std::size_t total = 0;
  for (const auto& [backend, number] : counts) total += number;
  return total;
}

// " (cuda 9, wgpu 5)", or nothing.
std::string by_backend(const BackendCounts& counts) {
  std::string parts;
  for (const auto& [backend, number] : counts) {
    parts += fmt::format("{}{} {}", parts.empty() ? "" : ", ", backend_name(backend), number);
  }
  return parts.empty() ? "" : " (" + parts + ")";
}

Json item_to_json(const RunItem& item) {
  return {{"contract", item.contract->id.text},      {"file", item.contract->source.path()},
          {"line", item.block->id.at.line},          {"criterion", item.block->id.text},
          {"falsifier", item.block->falsifier.text}, {"backend", backend_name(item.backend)}};
}

Json outcome_to_json(const Outcome& outcome) {
  const Verdict& verdict = outcome.verdict;
  Json json = item_to_json(outcome.item);
  json["verdict"] = verdict_name(verdict.kind);
  json["reason"] = verdict.reason;
  json["cases"] = {{"asked", outcome.criterion.cases},
                   {"run", verdict.cases_run},
                   {"failed", verdict.cases_failed},
                   {"discarded", verdict.cases_discarded}};
  json["metrics"] = Json::array();
  for (const MetricReading& reading : verdict.metrics) {
    json["metrics"].push_back(Json(metric_to_json(reading)));
  }
  json["counterexample"] = verdict.counterexample;
  json["replay_token"] = verdict.replay_token;
  json["if_refuted"] = outcome.item.block->if_refuted;
  json["notes"] = verdict.notes;
  json["duration_us"] = outcome.duration_us;
  json["shared"] = outcome.shared;
  return json;
}

// Everything but the results.
Json frame_to_json(const RunReport& report) {
  Json waived = Json::array();
  for (const WaivedItem& item : report.waived) {
    Json json = item_to_json(item.item);
    json["by"] = item.by;
    waived.push_back(std::move(json));
  }
  return {{"command", "run"},
          {"version", build_info().version},
          {"tree_sha256", build_info().tree_sha256},
          {"subject", {{"name", report.subject}, {"sha256", report.subject_sha256}}},
          {"expectations", report.expectations},
          {"backends", report.backends},
          {"seed", std::to_string(report.seed)},
          {"duration_us", report.duration_us},
          {"cases", {{"run", cases_run(report)}, {"per_second", cases_per_second(report)}}},
          {"criteria",
           {{"total", report.outcomes.size() + report.waived.size()},
            {"held", count(report, VerdictKind::kHeld)},
            {"refuted", count(report, VerdictKind::kRefuted)},
            {"gave_up", count(report, VerdictKind::kGaveUp)},
            {"error", count(report, VerdictKind::kError)},
            {"not_run", count(report, VerdictKind::kNotRun)},
            {"waived", report.waived.size()}}},
          {"waived", waived},
          {"stays_unverified", stays_unverified(report)},
          {"record", report.record},
          {"exit_code", static_cast<int>(run_exit_code(report.outcomes))}};
}

std::string dump_line(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace

Json run_to_json(const RunReport& report) {
  Json json = frame_to_json(report);
  json["results"] = Json::array();
  for (const Outcome& outcome : report.outcomes)
    json["results"].push_back(outcome_to_json(outcome));
  return json;
}

std::string run_to_json_lines(const RunReport& report) {
  std::string text;
  for (const Outcome& outcome : report.outcomes) text += dump_line(outcome_to_json(outcome));
  Json frame = frame_to_json(report);
  frame["summary"] = true;
  return text + dump_line(frame);
}

std::string count_criteria(std::size_t number) {
  return fmt::format("{} {}", number, number == 1 ? "criterion" : "criteria");
}

std::string run_command(const RunReport& report, const RunItem& item) {
  const bool lacks_pack =
      item.falsifier != nullptr && item.falsifier->needs_pack && !report.has_pack;
  return fmt::format("{} --backend {}{}{}", run_command(*item.contract, *item.block),
                     backend_name(item.backend), report.subject_arguments,
                     lacks_pack ? " --expected FILE" : "");
}

std::string replay_command(const RunReport& report, const Outcome& outcome) {
  return run_command(report, outcome.item) + " --replay " +
         shell_word(outcome.verdict.replay_token);
}

std::size_t cases_run(const RunReport& report) {
  std::size_t cases = 0;
  for (const Outcome& outcome : report.outcomes) {
    if (!outcome.shared) cases += outcome.verdict.cases_run;
  }
  return cases;
}

double cases_per_second(const RunReport& report) {
  std::uint64_t duration_us = 0;
  for (const Outcome& outcome : report.outcomes) {
    if (!outcome.shared) duration_us += outcome.duration_us;
  }
  return duration_us == 0
             ? 0.0
             : static_cast<double>(cases_run(report)) / (static_cast<double>(duration_us) * 1e-6);
}

std::string run_summary(const RunReport& report) {
  BackendCounts not_run;
  for (const Outcome& outcome : report.outcomes) {
    if (outcome.verdict.kind == VerdictKind::kNotRun) ++not_run[outcome.item.backend];
  }
  BackendCounts waived;
  for (const WaivedItem& item : report.waived) ++waived[item.item.backend];
  std::string text = fmt::format(
      "{} of {} criteria held, {} refuted", count(report, VerdictKind::kHeld),
      report.outcomes.size() + report.waived.size(), count(report, VerdictKind::kRefuted));
  if (const auto number = count(report, VerdictKind::kGaveUp); number > 0) {
    text += fmt::format(", {} gave up", number);
  }
  if (const auto number = count(report, VerdictKind::kError); number > 0) {
    text += fmt::format(", {} failed to try", number);
  }
  text += fmt::format(", {} not run{}", total_of(not_run), by_backend(not_run));
  if (!waived.empty()) {
    text += fmt::format(", {} waived{}", total_of(waived), by_backend(waived));
  }
  return text;
}

std::vector<std::string> stays_unverified(const RunReport& report) {
  std::vector<std::string> lines;
  BackendCounts not_run;
  for (const Outcome& outcome : report.outcomes) {
    if (outcome.verdict.kind == VerdictKind::kNotRun) ++not_run[outcome.item.backend];
  }
  for (const auto& [backend, number] : not_run) {
    lines.push_back(fmt::format("{}: {} could not be run, as said above", backend_name(backend),
                                count_criteria(number)));
  }
  std::map<std::string, BackendCounts> waived;
  for (const WaivedItem& item : report.waived) ++waived[item.by][item.item.backend];
  for (const auto& [option, counts] : waived) {
    lines.push_back(fmt::format("{} left out by {}{}", count_criteria(total_of(counts)), option,
                                by_backend(counts)));
  }
  std::size_t prose = 0;
  std::set<std::string> subjects;
  for (const Contract& contract : report.contracts) {
    prose += contract.prose_predictions.size();
    for (const FalsifierBlock& block : contract.falsifiers) {
      for (const LocatedText& subject : block.subjects) subjects.insert(subject.text);
    }
  }
  subjects.erase("embedded");
  subjects.erase("synthetic");  // Inputs that the falsifiers make themselves: every run has them.
  if (!subjects.empty()) {
    std::string names;
    for (const std::string& name : subjects) names += (names.empty() ? "" : ", ") + name;
    lines.push_back("every model but " + report.subject + "; the contracts also name " + names +
                    ": refute run --subject MODEL.gguf");
  } else {
    lines.push_back("every model but " + report.subject + ": refute run --subject MODEL.gguf");
  }
  if (prose > 0) lines.push_back(fmt::format("{} predictions that are prose only", prose));
  const auto waiting = std::count_if(
      fault_catalogue().begin(), fault_catalogue().end(),
      [](const FaultInfo& fault) { return fault.hosts.empty() && !fault.waits_for.empty(); });
  if (waiting > 0) {
    lines.push_back(fmt::format(
        "whether {} faults would be seen that wait for a backend: refute list faults", waiting));
  }
  return lines;
}

}  // namespace refute
