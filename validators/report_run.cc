#include "validators/report_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "validators/build_info.h"
#include "validators/report_run_data.h"
#include "validators/table.h"

namespace refute {
namespace {

Cell verdict_cell(const Verdict& verdict) {
  switch (verdict.kind) {
    case VerdictKind::kHeld:
      return {"held", Paint::kGood};
    case VerdictKind::kRefuted:
      return {"REFUTED", Paint::kBad};
    case VerdictKind::kGaveUp:
      return {"gave up", Paint::kBad};
    case VerdictKind::kNotRun:
      return {"not run", Paint::kWarning};
    case VerdictKind::kError:
      return {"ERROR", Paint::kBad};
  }
  return {};
}

// How much of its bound a reading uses: above 1 it fails.
double share_of_bound(const MetricReading& reading) {
  if (!reading.passed()) return std::numeric_limits<double>::infinity();
  if (reading.larger_is_better) return (1.0 - reading.worst) / (1.0 - reading.threshold);
  return reading.threshold == 0.0 ? 1.0 : reading.worst / reading.threshold;
}

std::string worst_metric(const Verdict& verdict) {
  const auto worst = std::max_element(verdict.metrics.begin(), verdict.metrics.end(),
                                      [](const MetricReading& a, const MetricReading& b) {
                                        return share_of_bound(a) < share_of_bound(b);
                                      });
  if (worst == verdict.metrics.end()) {
    return verdict.cases_run == 0 ? "" : fmt::format("{} cases", verdict.cases_run);
  }
  const char* relation = worst->passed() ? (worst->larger_is_better ? ">=" : "<=")
                                         : (worst->larger_is_better ? "not >=" : "not <=");
  return fmt::format("{} {:.3g} {} {:.3g}", worst->metric, worst->worst, relation,
                     worst->threshold);
}

std::string seconds(const Outcome& outcome) {
  if (outcome.shared) return "shared";
  if (outcome.verdict.kind == VerdictKind::kNotRun) return "";
  return fmt::format("{:.2f} s", static_cast<double>(outcome.duration_us) * 1e-6);
}

Table table_of(std::span<const Outcome> outcomes, const Contract& contract) {
  Table table({"verdict", "criterion", "backend", "worst metric", "time"});
  for (const Outcome& outcome : outcomes) {
    if (outcome.item.contract != &contract) continue;
    table.add_row({verdict_cell(outcome.verdict),
                   {outcome.item.block->id.text},
                   {std::string(backend_name(outcome.item.backend))},
                   {worst_metric(outcome.verdict)},
                   {seconds(outcome), Paint::kFaint}});
  }
  return table;
}

std::string name_of(const RunItem& item) {
  return item.block->id.text + " on " + std::string(backend_name(item.backend));
}

// The lines below a table: what went wrong, and where to look.
std::string details(const RunReport& report, const Outcome& outcome, Style style) {
  const Verdict& verdict = outcome.verdict;
  if (verdict.held() || verdict.kind == VerdictKind::kNotRun) return "";
  std::string text = "\n  " + paint(style, Paint::kBad, std::string(verdict_name(verdict.kind))) +
                     " " + name_of(outcome.item) + " (" + outcome.item.block->falsifier.text +
                     ")\n";
  const auto line = [&](const char* label, const std::string& value) {
    if (!value.empty()) text += fmt::format("    {:<15} {}\n", label, value);
  };
  line("reason", verdict.reason);
  line("counterexample", verdict.counterexample);
  if (!verdict.replay_token.empty()) line("replay", replay_command(report, outcome));
  line("where to look", outcome.item.block->if_refuted);
  for (const std::string& note : verdict.notes) line("note", note);
  return text;
}

std::string header(const RunReport& report, Style style) {
  std::string text = fmt::format("refute {} (tree {})\n", build_info().version,
                                 build_info().tree_sha256.substr(0, 12));
  text += fmt::format("  subject       {}  sha256 {}\n", report.subject,
                      report.subject_sha256.substr(0, 12));
  text += fmt::format("  expectations  {}\n", report.expectations);
  for (const std::string& backend : report.backends) text += "  backend       " + backend + "\n";
  text += fmt::format("  seed          {}\n", report.seed);
  return paint(style, Paint::kPlain, text);
}

std::string not_run_lines(const RunReport& report, Style style) {
  std::string text;
  for (const Outcome& outcome : report.outcomes) {
    if (outcome.verdict.kind != VerdictKind::kNotRun) continue;
    text += fmt::format("  {}: {}\n    {}\n", name_of(outcome.item), outcome.verdict.reason,
                        paint(style, Paint::kFaint, run_command(report, outcome.item)));
  }
  return text.empty() ? text : "\nNot run:\n" + text;
}

std::string render_human(const RunReport& report, Style style) {
  std::string text = header(report, style);
  for (const Contract& contract : report.contracts) {
    const Table table = table_of(report.outcomes, contract);
    if (table.empty()) continue;
    text += fmt::format("\n{} {}  {}\n", paint(style, Paint::kBold, contract.id.text),
                        contract.version, paint(style, Paint::kFaint, contract.source.path()));
    text += table.text(style);
    for (const Outcome& outcome : report.outcomes) {
      if (outcome.item.contract == &contract) text += details(report, outcome, style);
    }
  }
  text += not_run_lines(report, style);
  text += fmt::format("\n{} in {:.1f} s\n{} cases, {:.0f} a second\n", run_summary(report),
                      static_cast<double>(report.duration_us) * 1e-6, cases_run(report),
                      cases_per_second(report));
  if (!report.record.empty()) text += "Record: " + report.record + "\n";
  text += "\nStays unverified:\n";
  for (const std::string& line : stays_unverified(report)) text += "  - " + line + "\n";
  return text;
}

std::string render_markdown(const RunReport& report) {
  std::string text = "## refute run\n\n" + run_summary(report) + "\n\n";
  text += fmt::format("Subject {} (`{}`), seed {}.\n", report.subject,
                      report.subject_sha256.substr(0, 12), report.seed);
  for (const Contract& contract : report.contracts) {
    const Table table = table_of(report.outcomes, contract);
    if (table.empty()) continue;
    text += "\n### " + contract.id.text + " " + contract.version + "\n\n" + table.markdown();
  }
  std::string failures;
  for (const Outcome& outcome : report.outcomes) failures += details(report, outcome, {});
  if (!failures.empty()) text += "\n### What failed\n\n```" + failures + "```\n";
  text += "\n### Stays unverified\n\n";
  for (const std::string& line : stays_unverified(report)) text += "- " + line + "\n";
  return text;
}

std::string render_github(const RunReport& report) {
  std::string text;
  for (const Outcome& outcome : report.outcomes) {
    if (outcome.verdict.held()) continue;
    const bool not_run = outcome.verdict.kind == VerdictKind::kNotRun;
    const LocatedText& id = outcome.item.block->id;
    text += github_annotation(
        {.severity = not_run ? "warning" : "error",
         .file = outcome.item.contract->source.path(),
         .line = id.at.line,
         .column = id.at.column,
         .title = std::string(verdict_name(outcome.verdict.kind)) + " " + name_of(outcome.item),
         .message = outcome.verdict.reason});
  }
  return text + github_annotation({.severity = "notice",
                                   .file = "",
                                   .title = "refute run",
                                   .message = run_summary(report)});
}

}  // namespace

std::string render_run(const RunReport& report, Format format, Style style) {
  switch (format) {
    case Format::kHuman:
      return render_human(report, style);
    case Format::kJson:
      return run_to_json(report).dump(2, ' ', false, nlohmann::json::error_handler_t::replace) +
             "\n";
    case Format::kJsonl:
      return run_to_json_lines(report);
    case Format::kMarkdown:
      return render_markdown(report);
    case Format::kGithub:
      return render_github(report);
    case Format::kCsv:
      break;  // Not offered.
  }
  return "";
}

}  // namespace refute
