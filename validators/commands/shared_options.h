// Options and messages that several subcommands share.
#pragma once

#include <CLI/CLI.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/cuda_options.h"
#include "validators/diagnostic.h"
#include "validators/exit_code.h"
#include "validators/report.h"

namespace refute {

// [PATH...], contracts by default.
void add_paths(CLI::App& command, std::vector<std::string>& paths);
// --format, several times; names the formats that are allowed.
void add_format(CLI::App& command, std::vector<std::string>& texts,
                std::span<const Format> allowed);
// --threads
// Whether a file may be written there: it does not exist, or is a regular one that `force` allows
// to replace. Devices and the like are never replaced.
Result<void> check_new_file(const std::string& path, bool force);

// For names of files: an empty one, of a variable that is not set, say, is not the default.
CLI::Validator not_empty();

void add_threads(CLI::App& command, std::size_t& num_threads);

// --attention
void add_attention(CLI::App& command, std::string& text);
// kUnsupported for a name that is no attention's, and for tensor on another backend than cuda.
Result<CudaOptions> parse_attention(std::string_view text, std::string_view backend);

// Prints "refute: <message>" to standard error and returns the code.
ExitCode fail(ExitCode code, std::string_view message);
// The same for an error from outside: unreadable or malformed input, or wrong usage; kNoDevice is
// kRequiredNotRun.
ExitCode fail(const Error& error);

// Prints diagnostics to standard error, with excerpts.
void print_diagnostics(std::span<const Diagnostic> diagnostics);

// Renders to the outputs; `code` when that works.
ExitCode finish(std::span<const Output> outputs, const Renderer& render, ExitCode code);

}  // namespace refute
