#include <CLI/CLI.hpp>
#include <array>
#include <filesystem>
#include <system_error>

#include "validators/catalogue.h"
#include "validators/checked_contracts.h"
#include "validators/commands/command.h"
#include "validators/commands/shared_options.h"
#include "validators/report_catalogue.h"

namespace refute {
namespace {

constexpr std::array kFormats = {Format::kHuman, Format::kJson, Format::kJsonl, Format::kMarkdown};

class ExplainCommand : public Command {
 public:
  CLI::App* declare(CLI::App& app) override {
    CLI::App* command = app.add_subcommand("explain", "Say what an id means");
    command
        ->add_option("ID", id_,
                     "A rule, falsifier, fault, contract, stage, acceptance, criterion, status, "
                     "verdict, backend, type or exit code")
        ->required();
    command
        ->add_option("--contracts", paths_, "Where ids of contracts are looked up, where it exists")
        ->allow_extra_args(false)
        ->type_name("PATH")
        ->capture_default_str();
    add_format(*command, formats_, kFormats);
    command->footer(
        "\nExamples:\n"
        "  refute explain RF409\n"
        "  refute explain F22\n"
        "  refute explain STALE --format json");
    return command;
  }

  ExitCode execute() override {
    const Result<std::vector<Output>> outputs = parse_outputs(formats_, kFormats);
    if (!outputs) return fail(outputs.error());
    std::error_code ignored;
    std::erase_if(paths_,
                  [&](const std::string& path) { return !std::filesystem::exists(path, ignored); });
    const ValidateResult contracts = validate_unclaimed(paths_);
    const auto entries = find_entries(id_, contracts.contracts);
    if (entries.empty()) {
      return fail(ExitCode::kUsageOrUnreadable,
                  "nothing has the id `" + id_ + "`" +
                      (contracts.contracts.empty() ? " (no contracts were searched)" : "") +
                      suggest_entry(id_, contracts.contracts));
    }
    return finish(
        *outputs,
        [&](Format format, Style style) { return render_explanations(entries, format, style); },
        ExitCode::kHeld);
  }

 private:
  std::string id_;
  std::vector<std::string> paths_ = {"contracts"};
  std::vector<std::string> formats_;
};

}  // namespace

std::unique_ptr<Command> make_explain_command() { return std::make_unique<ExplainCommand>(); }

}  // namespace refute
