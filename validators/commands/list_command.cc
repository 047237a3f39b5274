#include <CLI/CLI.hpp>
#include <array>

#include "validators/catalogue.h"
#include "validators/checked_contracts.h"
#include "validators/commands/command.h"
#include "validators/commands/shared_options.h"
#include "validators/report_catalogue.h"

namespace refute {
namespace {

constexpr std::array kFormats = {Format::kHuman, Format::kJson, Format::kJsonl, Format::kMarkdown};

class ListCommand : public Command {
 public:
  CLI::App* declare(CLI::App& app) override {
    CLI::App* command = app.add_subcommand("list", "List what there is, by kind");
    const auto kinds = catalogue_kinds();
    std::string names;
    for (const std::string_view kind : kinds) {
      names += (names.empty() ? "" : ", ") + std::string(kind);
    }
    command->add_option("KIND", kind_, "One of " + names)
        ->required()
        ->check(CLI::IsMember(std::vector<std::string>(kinds.begin(), kinds.end())));
    command
        ->add_option("--contracts", paths_,
                     "Where contracts, stages, acceptance and criteria are listed from")
        ->allow_extra_args(false)
        ->type_name("PATH")
        ->capture_default_str();
    add_format(*command, formats_, kFormats);
    command->footer(
        "\nExamples:\n"
        "  refute list falsifiers\n"
        "  refute list stages --contracts contracts/moe-router-v1.yaml\n"
        "  refute list faults --format json");
    return command;
  }

  ExitCode execute() override {
    const Result<std::vector<Output>> outputs = parse_outputs(formats_, kFormats);
    if (!outputs) return fail(outputs.error());
    ValidateResult contracts;
    if (comes_from_contracts(kind_)) {
      contracts = validate_unclaimed(paths_);
      if (contracts.unreadable > 0) {
        print_diagnostics(contracts.diagnostics);
        return ExitCode::kUsageOrUnreadable;
      }
    }
    const auto entries = list_entries(kind_, contracts.contracts);
    const ExitCode code = entries.empty() ? ExitCode::kNothingSelected : ExitCode::kHeld;
    return finish(
        *outputs, [&](Format format, Style style) { return render_list(entries, format, style); },
        code);
  }

 private:
  std::string kind_;
  std::vector<std::string> paths_ = {"contracts"};
  std::vector<std::string> formats_;
};

}  // namespace

std::unique_ptr<Command> make_list_command() { return std::make_unique<ListCommand>(); }

}  // namespace refute
