#include "validators/commands/shared_options.h"

#include <unistd.h>

#include <filesystem>
#include <system_error>

#include "engine/backend_id.h"
#include "validators/suggest.h"

namespace refute {

void add_paths(CLI::App& command, std::vector<std::string>& paths) {
  paths = {"contracts"};
  command.add_option("PATH", paths, "Contract files, and folders searched for *.yaml and *.yml")
      ->capture_default_str();
}

void add_format(CLI::App& command, std::vector<std::string>& texts,
                std::span<const Format> allowed) {
  std::string names;
  for (const Format format : allowed) {
    names += (names.empty() ? "" : ", ") + std::string(format_name(format));
  }
  command
      .add_option("--format", texts,
                  "One of " + names + "; FORMAT=FILE writes a file; may be given several times")
      ->type_name("FORMAT[=FILE]")
      ->allow_extra_args(false);
}

Result<void> check_new_file(const std::string& path, bool force) {
  std::error_code ignored;
  const auto status = std::filesystem::status(path, ignored);
  if (!std::filesystem::exists(status)) return {};
  if (!std::filesystem::is_regular_file(status)) {
    return Error{ErrorKind::kUnreadable, path, "a regular file or none", "another kind of file"};
  }
  if (!force) return Error{ErrorKind::kUnreadable, path, "no file", "one; --force replaces it"};
  return {};
}

CLI::Validator not_empty() {
  return CLI::Validator(
      [](const std::string& text) { return text.empty() ? "the name is empty" : std::string(); },
      "");
}

void add_threads(CLI::App& command, std::size_t& num_threads) {
  command.add_option("--threads", num_threads, "Threads; 0 takes the number of processors")
      ->check(CLI::Range(0, 4096))
      ->type_name("N")
      ->capture_default_str();
}

void add_attention(CLI::App& command, std::string& text) {
  text = prefill_attention_name(PrefillAttention::kExact);
  command
      .add_option("--attention", text,
                  "Attention of prompts with --backend cuda: exact (the same bits whatever a "
                  "call's length) or tensor (on the tensor cores, faster, within the gates of ops)")
      ->type_name("NAME")
      ->capture_default_str();
}

Result<CudaOptions> parse_attention(std::string_view text, std::string_view backend) {
  const auto attention = parse_prefill_attention(text);
  if (!attention) {
    std::vector<std::string_view> names;
    for (const PrefillAttention known : kAllPrefillAttentions) {
      names.push_back(prefill_attention_name(known));
    }
    return Error{ErrorKind::kUnsupported, "--attention",
                 "an attention (" + suggest(text, names) + ")", "`" + std::string(text) + "`"};
  }
  if (*attention == PrefillAttention::kTensor && backend != backend_name(BackendId::kCuda)) {
    return Error{ErrorKind::kUnsupported, "--attention tensor", "--backend cuda",
                 std::string(backend)};
  }
  return CudaOptions{*attention};
}

ExitCode fail(ExitCode code, std::string_view message) {
  print_error("refute: " + std::string(message) + "\n");
  return code;
}

ExitCode fail(const Error& error) {
  const bool lacks_device = error.kind == ErrorKind::kNoDevice;
  return fail(lacks_device ? ExitCode::kRequiredNotRun : ExitCode::kUsageOrUnreadable,
              error.message());
}

void print_diagnostics(std::span<const Diagnostic> diagnostics) {
  const Color color = style_of(STDERR_FILENO).color ? Color::kAnsi : Color::kNone;
  for (const Diagnostic& diagnostic : diagnostics) print_error(render(diagnostic, color) + "\n");
}

ExitCode finish(std::span<const Output> outputs, const Renderer& render, ExitCode code) {
  const Result<void> written = write_outputs(outputs, render);
  return written ? code : fail(written.error());
}

}  // namespace refute
