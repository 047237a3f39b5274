#include "validators/diagnostic.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <tuple>
#include <utility>

#include "kernels/check.h"
#include "validators/rules.h"

namespace refute {
namespace {

constexpr std::size_t kWindow = 100;  // Columns of an excerpt.

std::string_view severity_color(Severity severity) {
  switch (severity) {
    case Severity::kError:
      return "\x1b[1;31m";
    case Severity::kWarning:
      return "\x1b[1;33m";
    case Severity::kNote:
      return "\x1b[1;36m";
  }
  return "";
}

// The code points of a printable line, each as its bytes.
std::vector<std::string> code_points(std::string_view line) {
  std::vector<std::string> points;
  for (const char byte : line) {
    const bool continues = (static_cast<unsigned char>(byte) & 0xC0U) == 0x80U;
    if (continues && !points.empty()) {
      points.back() += byte;
    } else {
      points.emplace_back(1, byte);
    }
  }
  return points;
}

struct Excerpt {
  std::string text;
  std::size_t caret = 0;   // Columns before the caret.
  std::size_t length = 1;  // Columns underlined.
};

Excerpt cut_excerpt(const Diagnostic& diagnostic) {
  const std::vector<std::string> points = code_points(diagnostic.excerpt);
  const std::size_t at = std::min(diagnostic.at.column - 1, points.size());
  const std::size_t begin = points.size() > kWindow && at > kWindow / 2 ? at - kWindow / 2 : 0;
  const std::size_t end = std::min(points.size(), begin + kWindow);
  Excerpt excerpt;
  if (begin > 0) excerpt.text += "...";
  for (std::size_t i = begin; i < end; ++i) excerpt.text += points[i];
  if (end < points.size()) excerpt.text += "...";
  excerpt.caret = at - begin + (begin > 0 ? 3 : 0);
  excerpt.length =
      std::clamp<std::size_t>(diagnostic.length, 1, std::max<std::size_t>(1, end - at));
  return excerpt;
}

}  // namespace

std::string_view severity_name(Severity severity) {
  switch (severity) {
    case Severity::kError:
      return "error";
    case Severity::kWarning:
      return "warning";
    case Severity::kNote:
      return "note";
  }
  return "unknown";
}

void Findings::report(std::string_view rule, const SourceFile& source, Position at,
                      std::size_t length, std::string_view message, std::string_view help) {
  const RuleInfo* info = find_rule(rule);
  CHECK(info != nullptr);
  diagnostics_.push_back({info->id, info->severity, source.path(), at, length, printable(message),
                          printable(help), printable(source.line(at.line))});
}

std::size_t Findings::errors_in(std::string_view file) const {
  return static_cast<std::size_t>(
      std::count_if(diagnostics_.begin(), diagnostics_.end(), [file](const Diagnostic& found) {
        return found.severity == Severity::kError && found.file == file;
      }));
}

std::vector<Diagnostic> Findings::take_sorted() && {
  std::stable_sort(diagnostics_.begin(), diagnostics_.end(),
                   [](const Diagnostic& a, const Diagnostic& b) {
                     return std::tie(a.file, a.at, a.rule) < std::tie(b.file, b.at, b.rule);
                   });
  return std::move(diagnostics_);
}

std::string render(const Diagnostic& diagnostic, Color color) {
  const bool ansi = color == Color::kAnsi;
  const std::string_view paint = ansi ? severity_color(diagnostic.severity) : "";
  const std::string_view faint = ansi ? "\x1b[1;34m" : "";
  const std::string_view reset = ansi ? "\x1b[0m" : "";
  const bool placed = diagnostic.at.line > 0;
  std::string text = diagnostic.file;
  if (placed) text += fmt::format(":{}:{}", diagnostic.at.line, diagnostic.at.column);
  text += fmt::format(": {}{}[{}]{}: {}\n", paint, severity_name(diagnostic.severity),
                      diagnostic.rule, reset, diagnostic.message);
  const std::string number = placed ? std::to_string(diagnostic.at.line) : "";
  const std::string margin(number.size(), ' ');
  if (placed) {
    const Excerpt excerpt = cut_excerpt(diagnostic);
    text += fmt::format("{}{} |{}\n", faint, margin, reset);
    text += fmt::format("{}{} |{} {}\n", faint, number, reset, excerpt.text);
    text +=
        fmt::format("{}{} |{} {}{}{}{}\n", faint, margin, reset, std::string(excerpt.caret, ' '),
                    paint, std::string(excerpt.length, '^'), reset);
  }
  if (!diagnostic.help.empty()) text += fmt::format("{} = help: {}\n", margin, diagnostic.help);
  return text;
}

std::string to_json(std::span<const Diagnostic> diagnostics) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const Diagnostic& found : diagnostics) {
    list.push_back({{"rule", found.rule},
                    {"name", find_rule(found.rule)->name},
                    {"severity", severity_name(found.severity)},
                    {"file", found.file},
                    {"line", found.at.line},
                    {"column", found.at.column},
                    {"length", found.length},
                    {"message", found.message},
                    {"help", found.help}});
  }
  // Paths are the operating system's bytes, so they may be no UTF-8: replace rather than throw.
  return list.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace refute
