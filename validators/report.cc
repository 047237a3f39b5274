#include "validators/report.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>

#include "validators/suggest.h"

namespace refute {
namespace {

constexpr std::array<std::string_view, 6> kFormatNames = {"human",    "json",   "jsonl",
                                                          "markdown", "github", "csv"};

// GitHub's escapes: percent and line breaks in messages, colon and comma too in properties.
std::string github_escape(std::string_view text, bool property) {
  std::string escaped;
  for (const char letter : text) {
    const bool special = letter == '%' || letter == '\r' || letter == '\n' ||
                         (property && (letter == ':' || letter == ','));
    if (!special) {
      escaped += letter;
      continue;
    }
    constexpr std::string_view kDigits = "0123456789ABCDEF";
    const auto code = static_cast<unsigned char>(letter);
    escaped += '%';
    escaped += kDigits[code >> 4];
    escaped += kDigits[code & 15];
  }
  return escaped;
}

}  // namespace

std::string_view format_name(Format format) {
  return kFormatNames[static_cast<std::size_t>(format)];
}

Result<std::vector<Output>> parse_outputs(std::span<const std::string> texts,
                                          std::span<const Format> allowed) {
  std::vector<Output> outputs;
  for (const std::string& text : texts) {
    const std::size_t equals = text.find('=');
    const std::string name = text.substr(0, equals);
    const auto found = std::find_if(allowed.begin(), allowed.end(),
                                    [&](Format format) { return format_name(format) == name; });
    if (found == allowed.end()) {
      std::vector<std::string_view> names;
      for (const Format format : allowed) names.push_back(format_name(format));
      return Error{ErrorKind::kUnsupported, "--format", "a format (" + suggest(name, names) + ")",
                   "`" + name + "`"};
    }
    outputs.push_back({*found, equals == std::string::npos ? "" : text.substr(equals + 1)});
  }
  if (outputs.empty()) outputs.emplace_back();
  const auto to_stdout = std::count_if(outputs.begin(), outputs.end(),
                                       [](const Output& output) { return output.file.empty(); });
  if (to_stdout > 1) {
    return Error{ErrorKind::kUnsupported, "--format", "one format on standard output",
                 std::to_string(to_stdout) + "; name files for the others: --format json=FILE"};
  }
  return outputs;
}

Result<void> write_outputs(std::span<const Output> outputs, const Renderer& render) {
  for (const Output& output : outputs) {
    if (output.file.empty()) {
      print(render(output.format, style_of(STDOUT_FILENO)));
      continue;
    }
    std::ofstream out(output.file, std::ios::binary);
    out << render(output.format, {});
    out.close();
    if (!out) {
      return Error{ErrorKind::kUnreadable, output.file, "a file that can be written",
                   std::strerror(errno)};
    }
  }
  return {};
}

void print(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

void print_error(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

std::string github_annotation(const Annotation& annotation) {
  std::string text = "::" + std::string(annotation.severity) + " ";
  if (!annotation.file.empty()) text += "file=" + github_escape(annotation.file, true) + ",";
  if (annotation.line > 0) {
    text += "line=" + std::to_string(annotation.line) +
            ",col=" + std::to_string(annotation.column) + ",";
  }
  text += "title=" + github_escape(annotation.title, true);
  return text + "::" + github_escape(annotation.message, false) + "\n";
}

}  // namespace refute
