// How `refute compare` shows what it found.
#pragma once

#include <optional>
#include <string>

#include "engine/trace_file.h"
#include "falsifiers/trace_comparison.h"
#include "validators/exit_code.h"
#include "validators/report.h"

namespace refute {

struct CompareReport {
  std::string reference_file;
  std::string candidate_file;
  TraceFile reference;
  TraceFile candidate;
  TraceComparison chained;
  std::optional<TraceComparison> local;
  std::string replayed_by;  // The backend of the local part.

  // 1 when anything diverges or a run ended with an error, 4 when nothing was compared, else 0.
  ExitCode exit_code() const;
};

// human or json.
std::string render_compare(const CompareReport& report, Format format, Style style);

}  // namespace refute
