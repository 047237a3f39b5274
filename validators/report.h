// Where results are printed, and in which formats: every command renders itself to text, and this
// is what writes the text out.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/result.h"
#include "validators/style.h"

namespace refute {

enum class Format { kHuman, kJson, kJsonl, kMarkdown, kGithub, kCsv };

std::string_view format_name(Format format);  // "human"

struct Output {
  Format format = Format::kHuman;
  std::string file;  // Empty: standard output.
};

// Each text is FORMAT or FORMAT=FILE; none at all means human on standard output. kUnsupported when
// a format is not one of `allowed`, or when two would go to standard output.
Result<std::vector<Output>> parse_outputs(std::span<const std::string> texts,
                                          std::span<const Format> allowed);

using Renderer = std::function<std::string(Format format, Style style)>;

// Renders once for each output and writes it. kUnreadable when a file cannot be written.
Result<void> write_outputs(std::span<const Output> outputs, const Renderer& render);

// To standard output and standard error as they are.
void print(std::string_view text);
void print_error(std::string_view text);

// A GitHub annotation: `::error file=F,line=L,col=C,title=T::message`. Line 0 leaves out the place.
struct Annotation {
  std::string_view severity;  // "error", "warning", "notice"
  std::string file;
  std::size_t line = 0;
  std::size_t column = 0;
  std::string title;
  std::string message;
};
std::string github_annotation(const Annotation& annotation);

}  // namespace refute
