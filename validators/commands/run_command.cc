#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <chrono>
#include <optional>

#include "falsifiers/replay_token.h"
#include "validators/checked_contracts.h"
#include "validators/commands/command.h"
#include "validators/commands/shared_options.h"
#include "validators/contract_keys.h"
#include "validators/progress.h"
#include "validators/record_store.h"
#include "validators/report_run.h"
#include "validators/run.h"
#include "validators/run_record.h"
#include "validators/shell_words.h"
#include "validators/suggest.h"
#include "validators/watchdog.h"

namespace refute {
namespace {

constexpr std::array kFormats = {Format::kHuman, Format::kJson, Format::kJsonl, Format::kMarkdown,
                                 Format::kGithub};

std::string name_of(const RunItem& item) {
  return item.block->id.text + " (" + item.block->falsifier.text + ") on " +
         std::string(backend_name(item.backend));
}

// Draws the progress bar, and ends the process when one falsifier takes too long: there is no way
// to stop it alone, and a run without its verdict shows nothing.
class Supervisor : public RunObserver {
 public:
  explicit Supervisor(double limit_seconds) {
    if (!(limit_seconds > 0.0)) return;
    watchdog_.emplace(std::chrono::milliseconds(static_cast<std::int64_t>(limit_seconds * 1e3)),
                      [limit_seconds](const std::string& step) {
                        print_error(fmt::format(
                            "\nrefute: {} took longer than --timeout {}: error, the run ends\n",
                            step, limit_seconds));
                        _exit(static_cast<int>(ExitCode::kInternal));
                      });
  }

  void started(std::size_t index, std::size_t total, const RunItem& item) override {
    progress_.show(index, total, name_of(item));
    if (watchdog_) watchdog_->arm(name_of(item));
  }
  void finished(const Outcome&) override {
    if (watchdog_) watchdog_->disarm();
  }
  void clear() { progress_.clear(); }

 private:
  Progress progress_;
  std::optional<Watchdog> watchdog_;
};

std::string describe_expectations(const LoadedSubject& subject, bool was_given) {
  if (subject.pack_waived) return "none (waived by --expected none)";
  if (!subject.pack) return "none: give --expected FILE, or --expected none to waive";
  const bool beside = !was_given && !subject.embedded;
  return subject.pack_name + (beside ? " (found beside the model)" : "");
}

class RunCommand : public Command {
 public:
  CLI::App* declare(CLI::App& app) override {
    CLI::App* command = app.add_subcommand("run", "Run the falsifiers that contracts cite");
    add_paths(*command, paths_);
    declare_subject(*command);
    declare_selection(*command);
    declare_effort(*command);
    add_format(*command, formats_, kFormats);
    command->footer(
        "\nExamples:\n"
        "  refute run --backend oracle,cpu\n"
        "  refute run contracts/moe-router-v1.yaml --cases 1000 --seed 7\n"
        "  refute run --subject model.gguf --expected none --backend cpu --no-record\n"
        "  refute run --filter 'router.*' --format human --format json=run.json\n"
        "\nExits with 0 when everything required held; 1 when something was refuted, gave up, or a "
        "contract\nis invalid; 2 for wrong usage or a file that cannot be read; 3 when an attempt "
        "itself failed or\ntook longer than --timeout; 4 when nothing is selected; 5 when "
        "something required was not run.");
    return command;
  }

  ExitCode execute() override {
    const Result<std::vector<Output>> outputs = parse_outputs(formats_, kFormats);
    if (!outputs) return fail(outputs.error());
    if (const Result<void> parsed = parse_selection(); !parsed) return fail(parsed.error());
    const ValidateResult contracts = validate_unclaimed(paths_);
    if (contracts.exit_code() != ExitCode::kHeld) return refuse(contracts);
    RunPlan plan = plan_run(contracts.contracts, options_);
    if (plan.items.empty()) return nothing_selected(plan);
    return run(contracts.contracts, plan, *outputs);
  }

 private:
  void declare_subject(CLI::App& command) {
    command.add_option("--subject", subject_, "Model to test; by default the embedded one")
        ->check(not_empty())
        ->type_name("MODEL.gguf");
    command
        .add_option("--expected", expected_,
                    "Its float64 expectations, or none to do without; by default "
                    "MODEL.expected.gguf beside the model")
        ->type_name("FILE|none");
    add_threads(command, num_threads_);
  }

  void declare_selection(CLI::App& command) {
    command
        .add_option("--backend", backend_names_,
                    "Backends to require: oracle, cpu, cuda, wgpu; by default all that the "
                    "contracts list")
        ->delimiter(',')
        ->allow_extra_args(false)
        ->check(CLI::IsMember({"oracle", "cpu", "cuda", "wgpu"}))
        ->type_name("NAME,...");
    command
        .add_option("--filter", options_.filter,
                    "Only criteria whose contract, id, falsifier or acceptance id contains this, "
                    "or fits it as a glob")
        ->type_name("TEXT");
    command.add_option("--partition", partition_, "One of N shares of the work, from 1")
        ->type_name("hash:M/N");
    command.add_option("--replay", replay_, "Repeat exactly one counterexample, without a record")
        ->type_name("TOKEN");
  }

  void declare_effort(CLI::App& command) {
    command
        .add_option("--cases", options_.cases,
                    "Cases per property instead of the contract's own; fewer are no evidence")
        ->check(CLI::Range(std::size_t{1}, kMaxCases))
        ->type_name("N");
    command.add_option("--seed", options_.seed, "Seed of generated cases")
        ->type_name("S")
        ->capture_default_str();
    command.add_option("--timeout", timeout_seconds_, "Limit for each falsifier; 0 sets none")
        ->check(CLI::Range(0.0, 1e9))
        ->type_name("SECONDS")
        ->capture_default_str();
    command.add_option("--record", record_folder_, "Folder to write the record to")
        ->type_name("DIR")
        ->capture_default_str();
    command.add_flag("--no-record", no_record_, "Write no record");
  }

  Result<void> parse_selection() {
    for (const std::string& name : backend_names_)
      options_.backends.push_back(*parse_backend(name));
    if (!partition_.empty()) {
      const Result<Partition> partition = parse_partition(partition_);
      if (!partition) return partition.error();
      options_.partition = *partition;
    }
    if (!replay_.empty()) {
      const auto falsifier = falsifier_of_replay_token(replay_);
      if (!falsifier) {
        return Error{ErrorKind::kUnsupported, "--replay", "a token that a refuted run printed",
                     "`" + replay_ + "`"};
      }
      options_.replay = replay_;
      options_.replay_falsifier = *falsifier;
    }
    options_.expectations_waived = expected_ == "none";
    return {};
  }

  static ExitCode refuse(const ValidateResult& contracts) {
    print_diagnostics(contracts.diagnostics);
    if (contracts.files == 0 && contracts.unreadable == 0) {
      return fail(ExitCode::kNothingSelected, "no contract in these paths: nothing was run");
    }
    return fail(contracts.exit_code(),
                contracts.unreadable > 0
                    ? "a path cannot be read: nothing was run"
                    : fmt::format("{} errors in the contracts: nothing was run", contracts.errors));
  }

  ExitCode nothing_selected(const RunPlan& plan) const {
    if (plan.waived.empty()) {
      return fail(ExitCode::kNothingSelected, "these contracts cite no falsifier: nothing was run");
    }
    std::vector<std::string_view> ids;
    for (const WaivedItem& waived : plan.waived) ids.push_back(waived.item.block->id.text);
    std::string text = fmt::format("nothing was run: all {} criteria are left out by the options",
                                   plan.waived.size());
    if (!options_.filter.empty()) {
      if (const auto near = nearest_name(options_.filter, ids)) {
        text += fmt::format(" (--filter: did you mean `{}`?)", *near);
      }
    }
    return fail(ExitCode::kNothingSelected, text);
  }

  ExitCode run(std::span<const Contract> contracts, RunPlan& plan,
               std::span<const Output> outputs) {
    Result<LoadedSubject> subject =
        load_subject({.model = subject_, .expected = expected_, .num_threads = num_threads_});
    if (!subject) return fail(subject.error());
    leave_out_inapplicable(*subject, plan);
    if (plan.items.empty()) return nothing_selected(plan);
    const Result<Backends> backends = Backends::create(num_threads_);
    if (!backends) return fail(backends.error());
    // Before anything runs: what cannot be kept is not measured.
    const bool records = !no_record_ && !options_.replay;
    if (records) {
      if (const auto ok = check_record_folder(record_folder_); !ok) return fail(ok.error());
    }
    const auto started = std::chrono::system_clock::now();
    const auto clock = std::chrono::steady_clock::now();
    RunReport report;
    report.contracts = contracts;
    report.waived = plan.waived;
    report.subject = subject->name;
    report.subject_sha256 = subject->model_sha256;
    report.expectations = describe_expectations(*subject, !expected_.empty());
    report.seed = options_.seed;
    report.has_pack = subject->pack.has_value();
    if (!subject_.empty()) report.subject_arguments += " --subject " + shell_word(subject_);
    if (!expected_.empty()) report.subject_arguments += " --expected " + shell_word(expected_);
    {
      Supervisor supervisor(timeout_seconds_);
      report.outcomes = refute::execute(plan.items, *subject, *backends, options_, supervisor);
    }
    report.duration_us =
        static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(
                                       std::chrono::steady_clock::now() - clock)
                                       .count());
    for (const BackendId id : kAllBackends) {
      if (backends->of(id).backend)
        report.backends.push_back(backends->of(id).backend->description());
    }
    std::optional<Error> not_stored;
    if (records) {
      const auto stored = store_record(
          record_folder_,
          make_record(report.outcomes, *subject, *backends, started, report.duration_us));
      if (stored) {
        report.record = stored->string();
      } else {
        not_stored = stored.error();
      }
    }
    const ExitCode code = finish(
        outputs, [&](Format format, Style style) { return render_run(report, format, style); },
        run_exit_code(report.outcomes));
    return not_stored ? fail(*not_stored) : code;
  }

  std::vector<std::string> paths_;
  std::string subject_;
  std::string expected_;
  std::size_t num_threads_ = 0;
  std::vector<std::string> backend_names_;
  std::string partition_;
  std::string replay_;
  RunOptions options_;
  double timeout_seconds_ = 0.0;
  std::string record_folder_ = kDefaultRecordFolder;
  bool no_record_ = false;
  std::vector<std::string> formats_;
};

}  // namespace

std::unique_ptr<Command> make_run_command() { return std::make_unique<RunCommand>(); }

}  // namespace refute
