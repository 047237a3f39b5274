#include "validators/report_validate.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "validators/table.h"

namespace refute {
namespace {

using Json = nlohmann::ordered_json;

std::string plural(std::size_t number, const char* noun) {
  return fmt::format("{} {}{}", number, noun, number == 1 ? "" : "s");
}

Table table_of(const ValidateResult& result) {
  Table table({"contract", "version", "predictions", "bound", "prose only", "falsifiers", "stages",
               "valid"});
  for (std::size_t i = 0; i < result.contracts.size(); ++i) {
    const Contract& contract = result.contracts[i];
    const Denominators& numbers = result.denominators[i];
    const bool valid = result.is_valid(contract);
    table.add_row({{contract.id.text, Paint::kBold},
                   {contract.version},
                   {std::to_string(numbers.predictions())},
                   {std::to_string(numbers.bound)},
                   {std::to_string(numbers.prose_only())},
                   {std::to_string(numbers.falsifiers)},
                   {std::to_string(numbers.stages)},
                   valid ? Cell{"yes", Paint::kGood} : Cell{"NO", Paint::kBad}});
  }
  return table;
}

std::string registry_line(const ValidateResult& result) {
  return fmt::format("{} of {} registered falsifiers are cited by these contracts",
                     result.cited_falsifiers, result.registered_falsifiers);
}

std::string render_human(const ValidateResult& result, Style style) {
  std::string text;
  for (const Diagnostic& diagnostic : result.diagnostics) {
    text += render(diagnostic, style.color ? Color::kAnsi : Color::kNone) + "\n";
  }
  if (!result.contracts.empty()) text += table_of(result).text(style, 0) + "\n";
  const bool good = result.exit_code() == ExitCode::kHeld;
  text += paint(style, good ? Paint::kGood : Paint::kBad, validate_summary(result)) + "\n";
  text += describe(result.total) + "\n";
  text += registry_line(result) + "\n";
  return text;
}

Json numbers_to_json(const Denominators& numbers) {
  return {{"predictions", numbers.predictions()},
          {"bound", numbers.bound},
          {"prose_only", numbers.prose_only()},
          {"acceptance", numbers.acceptance},
          {"falsification_tests", numbers.falsification_tests},
          {"proof_obligations", numbers.proof_obligations},
          {"falsifiers", numbers.falsifiers},
          {"stages", numbers.stages},
          {"claimed_statuses", numbers.claimed_statuses}};
}

Json diagnostics_to_json(const ValidateResult& result) {
  return Json::parse(to_json(result.diagnostics));
}

// Everything but the diagnostics.
Json frame_to_json(const ValidateResult& result) {
  Json contracts = Json::array();
  for (std::size_t i = 0; i < result.contracts.size(); ++i) {
    const Contract& contract = result.contracts[i];
    contracts.push_back({{"id", contract.id.text},
                         {"version", contract.version},
                         {"file", contract.source.path()},
                         {"sha256", contract.sha256},
                         {"valid", result.is_valid(contract)},
                         {"numbers", numbers_to_json(result.denominators[i])}});
  }
  return {{"command", "validate"},
          {"files", result.files},
          {"unreadable", result.unreadable},
          {"errors", result.errors},
          {"warnings", result.warnings},
          {"notes", result.notes},
          {"numbers", numbers_to_json(result.total)},
          {"registered_falsifiers", result.registered_falsifiers},
          {"cited_falsifiers", result.cited_falsifiers},
          {"contracts", contracts},
          {"exit_code", static_cast<int>(result.exit_code())}};
}

std::string dump(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string render_json(const ValidateResult& result) {
  Json json = frame_to_json(result);
  json["diagnostics"] = diagnostics_to_json(result);
  return dump(json, 2);
}

std::string render_json_lines(const ValidateResult& result) {
  std::string text;
  for (const Json& diagnostic : diagnostics_to_json(result)) text += dump(diagnostic, -1);
  Json frame = frame_to_json(result);
  frame["summary"] = true;
  return text + dump(frame, -1);
}

std::string render_markdown(const ValidateResult& result) {
  std::string text = "## refute validate\n\n" + validate_summary(result) + ". " +
                     describe(result.total) + ". " + registry_line(result) + ".\n\n";
  if (!result.contracts.empty()) text += table_of(result).markdown();
  if (result.diagnostics.empty()) return text;
  Table findings({"place", "rule", "finding"});
  for (const Diagnostic& found : result.diagnostics) {
    findings.add_row({{fmt::format("{}:{}:{}", found.file, found.at.line, found.at.column)},
                      {fmt::format("{} {}", severity_name(found.severity), found.rule)},
                      {found.message}});
  }
  return text + "\n" + findings.markdown();
}

std::string render_github(const ValidateResult& result) {
  std::string text;
  for (const Diagnostic& found : result.diagnostics) {
    const bool note = found.severity == Severity::kNote;
    text += github_annotation({.severity = note ? "notice" : severity_name(found.severity),
                               .file = found.file,
                               .line = found.at.line,
                               .column = found.at.column,
                               .title = std::string(found.rule),
                               .message = found.message});
  }
  return text + github_annotation({.severity = "notice",
                                   .file = "",
                                   .title = "refute validate",
                                   .message = validate_summary(result)});
}

}  // namespace

std::string validate_summary(const ValidateResult& result) {
  std::string text = fmt::format("{}: {}, {}, {}", plural(result.files, "contract"),
                                 plural(result.errors, "error"), plural(result.warnings, "warning"),
                                 plural(result.notes, "note"));
  if (result.unreadable > 0) {
    text += fmt::format("; {} cannot be read", plural(result.unreadable, "path"));
  }
  if (result.files == 0) text += "; nothing was checked";
  return text;
}

std::string render_validate(const ValidateResult& result, Format format, Style style) {
  switch (format) {
    case Format::kHuman:
      return render_human(result, style);
    case Format::kJson:
      return render_json(result);
    case Format::kJsonl:
      return render_json_lines(result);
    case Format::kMarkdown:
      return render_markdown(result);
    case Format::kGithub:
      return render_github(result);
    case Format::kCsv:
      break;  // Not offered.
  }
  return "";
}

}  // namespace refute
