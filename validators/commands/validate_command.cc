#include <CLI/CLI.hpp>
#include <array>

#include "validators/checked_contracts.h"
#include "validators/commands/command.h"
#include "validators/commands/shared_options.h"
#include "validators/report_validate.h"

namespace refute {
namespace {

constexpr std::array kFormats = {Format::kHuman, Format::kJson, Format::kJsonl, Format::kMarkdown,
                                 Format::kGithub};

class ValidateCommand : public Command {
 public:
  CLI::App* declare(CLI::App& app) override {
    CLI::App* command = app.add_subcommand("validate", "Parse and check contracts");
    add_paths(*command, paths_);
    command
        ->add_option("--records", record_folders_,
                     "Folders of records to hold claimed statuses against; by default evidence/ "
                     "beside the contracts and .refute/records")
        ->check(CLI::ExistingDirectory)
        ->allow_extra_args(false)
        ->type_name("DIR");
    add_format(*command, formats_, kFormats);
    command->footer(
        "\nExamples:\n"
        "  refute validate contracts\n"
        "  refute validate contracts/moe-router-v1.yaml --format json\n"
        "  refute validate contracts --format human --format json=validate.json\n"
        "\nExits with 0 when no file has an error, 1 when one has, 2 when a path cannot be read, "
        "4 when\nthere is no contract.");
    return command;
  }

  ExitCode execute() override {
    const Result<std::vector<Output>> outputs = parse_outputs(formats_, kFormats);
    if (!outputs) return fail(outputs.error());
    const ValidateResult result =
        validate_claims(paths_, refute::record_folders(paths_, record_folders_));
    return finish(
        *outputs,
        [&](Format format, Style style) { return render_validate(result, format, style); },
        result.exit_code());
  }

 private:
  std::vector<std::string> paths_;
  std::vector<std::string> record_folders_;
  std::vector<std::string> formats_;
};

}  // namespace

std::unique_ptr<Command> make_validate_command() { return std::make_unique<ValidateCommand>(); }

}  // namespace refute
