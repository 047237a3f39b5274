#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <array>
#include <fstream>

#include "falsifiers/fault_catalogue.h"
#include "validators/checked_contracts.h"
#include "validators/commands/command.h"
#include "validators/commands/shared_options.h"
#include "validators/progress.h"
#include "validators/selftest/selftest_report.h"
#include "validators/suggest.h"

namespace refute {
namespace {

constexpr std::array kFormats = {Format::kHuman, Format::kJson, Format::kMarkdown};

class Display : public SelftestObserver {
 public:
  void progress(std::size_t done, std::size_t total, std::string_view label) override {
    progress_.show(done, total, label);
  }

 private:
  Progress progress_;
};

class SelftestCommand : public Command {
 public:
  CLI::App* declare(CLI::App& app) override {
    CLI::App* command = app.add_subcommand("selftest", "Seed each fault and show what kills it");
    add_paths(*command, paths_);
    command->add_option("--subject", subject_, "Model to seed faults in; by default the embedded")
        ->type_name("MODEL.gguf");
    command->add_option("--backend", backend_names_, "Hosts of faults; by default all there are")
        ->delimiter(',')
        ->allow_extra_args(false)
        ->check(CLI::IsMember({"oracle", "cpu", "cuda", "wgpu"}))
        ->type_name("NAME,...");
    command->add_option("--fault", options_.faults, "Only these faults, by their ids")
        ->delimiter(',')
        ->allow_extra_args(false)
        ->type_name("ID,...");
    command
        ->add_option("--filter", options_.filter,
                     "Only faults or falsifiers whose id or title contains this, or fits it as a "
                     "glob")
        ->type_name("TEXT");
    command->add_option("--partition", partition_, "One of N shares of the faults, from 1")
        ->type_name("hash:M/N");
    command->add_option("--workers", options_.num_workers, "Processes; 0 takes the processors")
        ->type_name("N");
    command->add_option("--timeout", timeout_seconds_, "Limit for each attempt")
        ->check(CLI::Range(1.0, 1e6))
        ->type_name("SECONDS")
        ->capture_default_str();
    command->add_option("--write", write_, "Write the matrix to this file")->type_name("FILE");
    add_format(*command, formats_, kFormats);
    command->footer(
        "\nExamples:\n"
        "  refute selftest\n"
        "  refute selftest --fault F22 --backend cpu\n"
        "  refute selftest --filter 'router.*' --backend cpu\n"
        "  refute selftest --partition hash:1/4\n"
        "  refute selftest --write contracts/kill-matrix.json\n"
        "\nExits with 0 when every fault is killed, every equivalent one passes, every mutant "
        "turns red and no\nkill of the committed matrix is lost; 1 otherwise; 2 for wrong usage "
        "or unreadable input; 4 when\nnothing is selected.");
    return command;
  }

  ExitCode execute() override {
    const Result<std::vector<Output>> outputs = parse_outputs(formats_, kFormats);
    if (!outputs) return fail(outputs.error());
    for (const std::string& name : backend_names_) {
      options_.backends.push_back(*parse_backend(name));
    }
    if (!partition_.empty()) {
      const Result<Partition> partition = parse_partition(partition_);
      if (!partition) return fail(partition.error());
      options_.partition = *partition;
    }
    for (const std::string& id : options_.faults) {
      if (find_fault(id) != nullptr) continue;
      std::vector<std::string_view> ids;
      for (const FaultInfo& fault : fault_catalogue()) ids.push_back(fault.id);
      return fail(ExitCode::kUsageOrUnreadable,
                  fmt::format("--fault: no fault {}; {}", id, suggest(id, ids)));
    }
    options_.limit =
        std::chrono::milliseconds(static_cast<std::int64_t>(timeout_seconds_ * 1000.0));
    const ValidateResult contracts = validate_unmeasured(paths_);
    if (contracts.exit_code() != ExitCode::kHeld) {
      print_diagnostics(contracts.diagnostics);
      return fail(contracts.exit_code(), "the contracts are not valid: nothing was seeded");
    }
    return run(contracts.contracts, *outputs);
  }

 private:
  ExitCode run(std::span<const Contract> contracts, std::span<const Output> outputs) {
    const Result<LoadedSubject> subject =
        load_subject({.model = subject_, .expected = "", .num_threads = 0});
    if (!subject) return fail(subject.error());
    SelftestReport report;
    {
      Display display;
      report.result = run_selftest(options_, *subject, display);
    }
    const KillMatrix& matrix = report.result.matrix;
    if (matrix.rows.empty()) {
      return fail(ExitCode::kNothingSelected, "no fault fits these options: nothing was seeded");
    }
    if (!options_.partial()) report.mutants = try_mutants({contracts, matrix});
    const KillMatrix& committed = committed_kill_matrix();
    report.compared = committed.subject_sha256 == matrix.subject_sha256;
    if (report.compared) {
      report.lost = lost_kills(committed, matrix, options_.partial());
      report.gained = gained_kills(committed, matrix);
    }
    if (!write_.empty()) {
      std::ofstream file(write_, std::ios::binary | std::ios::trunc);
      file << write_kill_matrix(matrix);
      file.close();
      if (!file) {
        return fail(Error{ErrorKind::kUnreadable, write_, "a file that can be written", "none"});
      }
      report.lost.clear();  // What was just written is what is measured.
    }
    return finish(
        outputs, [&](Format format, Style style) { return render_selftest(report, format, style); },
        report.passed() ? ExitCode::kHeld : ExitCode::kRefutedOrInvalid);
  }

  std::vector<std::string> paths_;
  std::string subject_;
  std::vector<std::string> backend_names_;
  SelftestOptions options_;
  std::string partition_;
  double timeout_seconds_ = 120.0;
  std::string write_;
  std::vector<std::string> formats_;
};

}  // namespace

std::unique_ptr<Command> make_selftest_command() { return std::make_unique<SelftestCommand>(); }

}  // namespace refute
