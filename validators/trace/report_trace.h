// How `refute trace` shows what it recorded.
#pragma once

#include <span>
#include <string>

#include "engine/trace_file.h"
#include "validators/report.h"
#include "validators/trace/recording.h"

namespace refute {

// "nano.gguf, cpu (avx512-vnni, 2 threads), 24 tokens, routes own", with what ended it.
std::string origin_text(const TraceFile& trace);

// human or json; `file` is where the trace was written.
std::string render_trace(const TraceFile& trace, std::span<const SiteSummary> sites,
                         const std::string& file, Format format, Style style);

}  // namespace refute
