// `refute selftest`: the release has no fault sites, so it hands over to refute-selftest beside it.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

#include "validators/commands/command.h"
#include "validators/commands/shared_options.h"

namespace refute {
namespace {

class SelftestForward : public Command {
 public:
  CLI::App* declare(CLI::App& app) override {
    command_ =
        app.add_subcommand("selftest", "Seed each fault and show what kills it (refute-selftest)");
    command_->prefix_command();  // Everything after it is for the other program.
    command_->set_help_flag();
    return command_;
  }

  ExitCode execute() override {
    std::error_code error;
    const auto own = std::filesystem::read_symlink("/proc/self/exe", error);
    const std::filesystem::path other = own.parent_path() / "refute-selftest";
    if (error || !std::filesystem::exists(other, error)) {
      return fail(ExitCode::kRequiredNotRun,
                  "the selftest needs the build with fault sites: `cmake --build build --target "
                  "refute-selftest` puts it beside this binary");
    }
    std::vector<std::string> arguments = {other.string(), "selftest"};
    for (const std::string& argument : command_->remaining()) arguments.push_back(argument);
    std::vector<char*> pointers;
    for (std::string& argument : arguments) pointers.push_back(argument.data());
    pointers.push_back(nullptr);
    execv(other.c_str(), pointers.data());
    return fail(ExitCode::kInternal,
                fmt::format("{} cannot be started: {}", other.string(), std::strerror(errno)));
  }

 private:
  CLI::App* command_ = nullptr;
};

}  // namespace

std::unique_ptr<Command> make_selftest_command() { return std::make_unique<SelftestForward>(); }

}  // namespace refute
