// What validation found: each finding names its rule and its place.
//
//   contracts/x.yaml:12:15: error[RF409]: gate 1e9 is looser than the ceiling 2e-05
//      |
//   12 |       gates: {relative_l2: 1e9}
//      |                            ^^^
//      = help: a contract may only tighten a gate
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "validators/source_file.h"

namespace refute {

enum class Severity { kError, kWarning, kNote };

// "error", "warning", "note".
std::string_view severity_name(Severity severity);

struct Diagnostic {
  std::string_view rule;  // An id of rule_table().
  Severity severity = Severity::kError;
  std::string file;
  Position at;             // Line 0: the file as a whole.
  std::size_t length = 1;  // Code points to underline.
  std::string message;     // One sentence, no full stop.
  std::string help;        // How to put it right; may be empty.
  std::string excerpt;     // The line at `at`.
};

// Collects diagnostics; the severity comes from the rule.
class Findings {
 public:
  // Text that a terminal would not print as it stands is replaced. Precondition: `rule` is an id of
  // rule_table().
  void report(std::string_view rule, const SourceFile& source, Position at, std::size_t length,
              std::string_view message, std::string_view help = "");

  std::size_t errors_in(std::string_view file) const;

  // Sorted by file, place and rule.
  std::vector<Diagnostic> take_sorted() &&;

 private:
  std::vector<Diagnostic> diagnostics_;
};

enum class Color { kNone, kAnsi };

// The excerpt is cut to a window around the caret when the line is long; ends with a line break.
std::string render(const Diagnostic& diagnostic, Color color = Color::kNone);

// A JSON array of {rule, name, severity, file, line, column, length, message, help}.
std::string to_json(std::span<const Diagnostic> diagnostics);

}  // namespace refute
