#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>

#include "validators/checked_contracts.h"
#include "validators/commands/command.h"
#include "validators/commands/shared_options.h"
#include "validators/report_status.h"

namespace refute {
namespace {

constexpr std::array kFormats = {Format::kHuman, Format::kJson, Format::kJsonl, Format::kMarkdown,
                                 Format::kGithub};

class StatusCommand : public Command {
 public:
  CLI::App* declare(CLI::App& app) override {
    CLI::App* command =
        app.add_subcommand("status", "The stage board: every status derived from records");
    add_paths(*command, paths_);
    command
        ->add_option("--records", record_folders_,
                     "Folders of records; by default evidence/ beside the contracts and "
                     ".refute/records")
        ->check(CLI::ExistingDirectory)
        ->allow_extra_args(false)
        ->type_name("DIR");
    command
        ->add_option("--require", required_,
                     "Exit with 5 unless every stage is at least this: PARTIAL, DISCHARGED or "
                     "SHIPPED")
        ->check(CLI::IsMember({"PARTIAL", "DISCHARGED", "SHIPPED"}))
        ->type_name("STATUS");
    add_format(*command, formats_, kFormats);
    command->footer(
        "\nExamples:\n"
        "  refute status\n"
        "  refute status contracts --require DISCHARGED\n"
        "  refute status contracts --format markdown=board.md\n"
        "\nExits with 0, with 1 when a contract has an error, 2 when a path cannot be read, 4 when "
        "there is\nno stage, 5 when --require is not met.");
    return command;
  }

  ExitCode execute() override {
    const Result<std::vector<Output>> outputs = parse_outputs(formats_, kFormats);
    if (!outputs) return fail(outputs.error());
    const ValidateResult result = validate_unclaimed(paths_);
    if (result.exit_code() != ExitCode::kHeld) print_diagnostics(result.diagnostics);
    if (result.files == 0 || result.unreadable > 0) {
      if (result.files == 0) print_error("refute: no contract in these paths\n");
      return result.exit_code();
    }
    StatusBasis basis = default_basis();
    basis.invalid_contracts = invalid_contracts(result);
    const auto folders = refute::record_folders(paths_, record_folders_);
    const StatusBoard board = derive_statuses(result.contracts, load_records(folders), basis);
    return finish(
        *outputs,
        [&](Format format, Style style) {
          return render_status(board, result.contracts, format, style);
        },
        result.errors > 0 ? ExitCode::kRefutedOrInvalid : judge(board));
  }

 private:
  ExitCode judge(const StatusBoard& board) const {
    if (board.stages.empty()) {
      return fail(ExitCode::kNothingSelected, "these contracts have no stage");
    }
    if (required_.empty()) return ExitCode::kHeld;
    const int rank = stage_status_rank(*parse_claimed_status(required_));
    const auto below = std::count_if(
        board.stages.begin(), board.stages.end(),
        [&](const StageReport& report) { return stage_status_rank(report.status) < rank; });
    if (below == 0) return ExitCode::kHeld;
    return fail(ExitCode::kRequiredNotRun, std::to_string(below) + " of " +
                                               std::to_string(board.stages.size()) +
                                               " stages are below " + required_);
  }

  std::vector<std::string> paths_;
  std::vector<std::string> record_folders_;
  std::string required_;
  std::vector<std::string> formats_;
};

}  // namespace

std::unique_ptr<Command> make_status_command() { return std::make_unique<StatusCommand>(); }

}  // namespace refute
