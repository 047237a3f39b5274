// The `refute` binary: parses the command line and hands over to one command.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <exception>
#include <sstream>
#include <string>
#include <vector>

#include "validators/build_info.h"
#include "validators/commands/command.h"
#include "validators/commands/shared_options.h"
#include "validators/suggest.h"

namespace refute {
namespace {

constexpr const char* kFooter =
    "\nExamples:\n"
    "  refute validate contracts\n"
    "  refute run --backend oracle,cpu\n"
    "  refute status\n"
    "  refute generate --prompt 'In the beginning'\n"
    "  refute explain STALE\n"
    "\nEvery command has a --help of its own. Exit codes: refute list exit-codes.";

extern "C" void handle_interrupt(int) {
  constexpr char kMessage[] = "\nrefute: interrupted\n";
  // Nothing can be done about a failed write here.
  [[maybe_unused]] const ssize_t count = write(STDERR_FILENO, kMessage, sizeof(kMessage) - 1);
  _exit(static_cast<int>(ExitCode::kInterrupted));
}

std::string version_text() {
  const BuildInfo& build = build_info();
  return fmt::format("refute {} (tree {}, {}, {})", build.version, build.tree_sha256,
                     build.compiler, build.build_type);
}

// A first word that is no command, with the one that may be meant.
std::string unknown_command(const CLI::App& app, const std::vector<std::string>& arguments) {
  if (arguments.empty() || arguments.front().starts_with('-')) return "";
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands({})) names.push_back(command->get_name());
  const std::vector<std::string_view> views(names.begin(), names.end());
  if (std::find(views.begin(), views.end(), arguments.front()) != views.end()) return "";
  return fmt::format("no command `{}`; {}", arguments.front(), suggest(arguments.front(), views));
}

ExitCode run_command_line(std::vector<std::string> arguments) {
  CLI::App app(
      "Tells whether an implementation of a quantized Mixture-of-Experts transformer is "
      "right, on every\nbackend, and how sure we may be.",
      "refute");
  app.set_version_flag("--version", version_text());
  app.require_subcommand(1);
  app.footer(kFooter);
  auto commands = make_commands();
  commands.push_back(make_selftest_command());
  std::vector<CLI::App*> declared;
  for (const auto& command : commands) declared.push_back(command->declare(app));
  if (const std::string unknown = unknown_command(app, arguments); !unknown.empty()) {
    return fail(ExitCode::kUsageOrUnreadable, unknown);
  }
  try {
    std::reverse(arguments.begin(), arguments.end());  // The order that CLI11 takes.
    app.parse(arguments);
  } catch (const CLI::ParseError& error) {
    std::ostringstream out;
    std::ostringstream complaint;
    const int code = app.exit(error, out, complaint);
    print(out.str());
    if (code == 0) return ExitCode::kHeld;
    print_error("refute: " + complaint.str());
    return ExitCode::kUsageOrUnreadable;
  }
  for (std::size_t i = 0; i < commands.size(); ++i) {
    if (declared[i]->parsed()) return commands[i]->execute();
  }
  return ExitCode::kUsageOrUnreadable;
}

}  // namespace
}  // namespace refute

int main(int argc, char** argv) {
  struct sigaction action {};
  action.sa_handler = refute::handle_interrupt;
  sigaction(SIGINT, &action, nullptr);
  try {
    const refute::ExitCode code = refute::run_command_line({argv + 1, argv + argc});
    // A result that nobody got is no result.
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
      refute::fail(code, "the standard output cannot be written: all of it may be lost");
      if (code == refute::ExitCode::kHeld) {
        return static_cast<int>(refute::ExitCode::kUsageOrUnreadable);
      }
    }
    return static_cast<int>(code);
  } catch (const std::exception& error) {
    return static_cast<int>(
        refute::fail(refute::ExitCode::kInternal, std::string("internal error: ") + error.what()));
  }
}
