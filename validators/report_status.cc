#include "validators/report_status.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>

#include "validators/build_info.h"
#include "validators/table.h"

namespace refute {
namespace {

using Json = nlohmann::ordered_json;

Paint paint_of(StageStatus status) {
  switch (status) {
    case StageStatus::kShipped:
    case StageStatus::kDischarged:
      return Paint::kGood;
    case StageStatus::kRefuted:
      return Paint::kBad;
    case StageStatus::kPending:
    case StageStatus::kStale:
    case StageStatus::kPartial:
      return Paint::kWarning;
  }
  return Paint::kPlain;
}

// "3/4 held", or a dash where nothing is counted.
std::string held_of(const StageReport& report) {
  if (report.needed.empty()) return "-";
  const auto held = std::count_if(
      report.needed.begin(), report.needed.end(),
      [](const CriterionEvidence& found) { return found.evidence == Evidence::kHeld; });
  return fmt::format("{}/{} held", held, report.needed.size());
}

std::string records_of(const StageReport& report) {
  std::vector<std::string> names;
  for (const CriterionEvidence& found : report.needed) {
    if (found.evidence == Evidence::kHeld &&
        std::find(names.begin(), names.end(), found.record) == names.end()) {
      names.push_back(found.record);
    }
  }
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

std::string claim_of(const StageReport& report) {
  const auto& claimed = report.stage->claimed_status;
  return claimed ? claimed->text : "";
}

std::string stage_block(const StageReport& report, Style style) {
  const std::string status(stage_status_name(report.status));
  std::string text =
      fmt::format("  {}{}  {}  {}\n", paint(style, paint_of(report.status), status),
                  std::string(10 - std::min<std::size_t>(10, status.size()), ' '),
                  paint(style, Paint::kBold, report.stage->id.text), held_of(report));
  if (!report.stage->title.empty()) text += "              " + report.stage->title + "\n";
  text += "              " + report.sentence + "\n";
  if (const std::string records = records_of(report); !records.empty()) {
    text += "              " + paint(style, Paint::kFaint, "records: " + records) + "\n";
  }
  if (!report.command.empty()) {
    text += "              " + paint(style, Paint::kFaint, "$ " + report.command) + "\n";
  }
  return text;
}

std::string rejected_lines(const StatusBoard& board, Style style) {
  std::string text;
  for (const Error& error : board.rejected_records) {
    text += paint(style, Paint::kWarning, "ignored record: ") + error.message() + "\n";
  }
  return text;
}

// What no record shows to hold, by backend; empty when there is nothing.
std::string unverified_lines(const StatusBoard& board) {
  std::map<BackendId, std::map<Evidence, std::size_t>> open;
  for (const CriterionEvidence& found : board.criteria) {
    if (found.evidence != Evidence::kHeld) ++open[found.backend][found.evidence];
  }
  std::string text;
  for (const auto& [backend, counts] : open) {
    std::string parts;
    for (const auto& [evidence, count] : counts) {
      parts += fmt::format("{}{} {}", parts.empty() ? "" : ", ", count, evidence_name(evidence));
    }
    text += fmt::format("  - {}: {} of its criteria\n", backend_name(backend), parts);
  }
  if (text.empty()) return text;
  return "\nStays unverified (every model but the embedded one aside):\n" + text;
}

std::string render_human(const StatusBoard& board, std::span<const Contract> contracts,
                         Style style) {
  std::string text;
  for (const Contract& contract : contracts) {
    if (contract.stages.empty()) continue;
    text += fmt::format("{} {}  {}\n", paint(style, Paint::kBold, contract.id.text),
                        contract.version, paint(style, Paint::kFaint, contract.source.path()));
    for (const StageReport& report : board.stages) {
      if (report.contract == &contract) text += stage_block(report, style);
    }
    text += "  " + status_summary(board, &contract) + "\n\n";
  }
  if (!board.other_subjects.empty()) {
    text += "Evidence about other models, which decides nothing here:\n";
    for (const std::string& line : board.other_subjects) text += "  " + line + "\n";
    text += "\n";
  }
  text += rejected_lines(board, style);
  text += fmt::format("{} records read, {} ignored; tree {}\n", board.records,
                      board.rejected_records.size(), build_info().tree_sha256.substr(0, 12));
  return text + status_summary(board, nullptr) + "\n" + unverified_lines(board);
}

Json evidence_to_json(const CriterionEvidence& found) {
  return {{"contract", found.contract->id.text},
          {"criterion", found.block->id.text},
          {"backend", backend_name(found.backend)},
          {"evidence", evidence_name(found.evidence)},
          {"why", found.why},
          {"record", found.record}};
}

Json stage_to_json(const StageReport& report) {
  Json needed = Json::array();
  for (const CriterionEvidence& found : report.needed) needed.push_back(evidence_to_json(found));
  return {{"contract", report.contract->id.text},
          {"file", report.contract->source.path()},
          {"line", report.stage->id.at.line},
          {"stage", report.stage->id.text},
          {"title", report.stage->title},
          {"status", stage_status_name(report.status)},
          {"claimed", claim_of(report)},
          {"sentence", report.sentence},
          {"command", report.command},
          {"needed", needed}};
}

// Everything but the stages.
Json frame_to_json(const StatusBoard& board) {
  Json rejected = Json::array();
  for (const Error& error : board.rejected_records) rejected.push_back(error.message());
  return {{"command", "status"},
          {"version", build_info().version},
          {"tree_sha256", build_info().tree_sha256},
          {"records", board.records},
          {"rejected_records", rejected},
          {"other_subjects", board.other_subjects},
          {"summary", status_summary(board, nullptr)}};
}

std::string dump(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string render_json(const StatusBoard& board) {
  Json json = frame_to_json(board);
  json["stages"] = Json::array();
  for (const StageReport& report : board.stages) json["stages"].push_back(stage_to_json(report));
  return dump(json, 2);
}

std::string render_json_lines(const StatusBoard& board) {
  std::string text;
  for (const StageReport& report : board.stages) text += dump(stage_to_json(report), -1);
  return text + dump(frame_to_json(board), -1);
}

std::string render_markdown(const StatusBoard& board) {
  Table table({"contract", "stage", "status", "held", "why", "next", "records"});
  for (const StageReport& report : board.stages) {
    table.add_row({{report.contract->id.text},
                   {report.stage->id.text},
                   {std::string(stage_status_name(report.status))},
                   {held_of(report)},
                   {report.sentence},
                   {report.command.empty() ? "" : "`" + report.command + "`"},
                   {records_of(report)}});
  }
  return "## refute status\n\n" + status_summary(board, nullptr) + "\n\n" + table.markdown();
}

std::string render_github(const StatusBoard& board) {
  std::string text;
  for (const StageReport& report : board.stages) {
    if (report.status == StageStatus::kShipped || report.status == StageStatus::kDischarged) {
      continue;
    }
    const bool refuted = report.status == StageStatus::kRefuted;
    text += github_annotation(
        {.severity = refuted ? "error" : "notice",
         .file = report.contract->source.path(),
         .line = report.stage->id.at.line,
         .column = report.stage->id.at.column,
         .title = std::string(stage_status_name(report.status)) + " " + report.stage->id.text,
         .message = report.sentence});
  }
  return text + github_annotation({.severity = "notice",
                                   .file = "",
                                   .title = "refute status",
                                   .message = status_summary(board, nullptr)});
}

}  // namespace

std::string status_summary(const StatusBoard& board, const Contract* contract) {
  constexpr std::array kOrder = {StageStatus::kShipped, StageStatus::kDischarged,
                                 StageStatus::kPartial, StageStatus::kStale,
                                 StageStatus::kRefuted, StageStatus::kPending};
  std::size_t total = 0;
  std::string text;
  for (const StageStatus status : kOrder) {
    const auto number =
        std::count_if(board.stages.begin(), board.stages.end(), [&](const StageReport& report) {
          return report.status == status && (contract == nullptr || report.contract == contract);
        });
    total += static_cast<std::size_t>(number);
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", number, stage_status_name(status));
  }
  return fmt::format("{} stage{}: {}", total, total == 1 ? "" : "s", text);
}

std::string render_status(const StatusBoard& board, std::span<const Contract> contracts,
                          Format format, Style style) {
  switch (format) {
    case Format::kHuman:
      return render_human(board, contracts, style);
    case Format::kJson:
      return render_json(board);
    case Format::kJsonl:
      return render_json_lines(board);
    case Format::kMarkdown:
      return render_markdown(board);
    case Format::kGithub:
      return render_github(board);
    case Format::kCsv:
      break;  // Not offered.
  }
  return "";
}

}  // namespace refute
