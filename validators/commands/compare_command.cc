#include <CLI/CLI.hpp>
#include <array>
#include <filesystem>
#include <optional>
#include <system_error>

#include "engine/trace_file.h"
#include "falsifiers/trace_comparison.h"
#include "falsifiers/traced_run.h"
#include "validators/commands/command.h"
#include "validators/commands/shared_options.h"
#include "validators/named_backend.h"
#include "validators/subject_files.h"
#include "validators/trace/report_compare.h"

namespace refute {
namespace {

constexpr std::array kFormats = {Format::kHuman, Format::kJson};

class CompareCommand : public Command {
 public:
  CLI::App* declare(CLI::App& app) override {
    CLI::App* command =
        app.add_subcommand("compare", "Compare two traces and name the first divergence");
    command->add_option("REFERENCE", reference_, "A trace, or expectations (NAME.expected.gguf)")
        ->required()
        ->type_name("A.gguf");
    command->add_option("CANDIDATE", candidate_, "Another trace of the same tokens and model")
        ->required()
        ->type_name("B.gguf");
    CLI::Option* local = command->add_flag(
        "--local", local_,
        "Also compute each stage again from the reference's inputs, on the candidate's backend");
    command->add_option("--backend", backend_, "Backend for --local, instead of the candidate's")
        ->needs(local)
        ->type_name("NAME");
    command->add_option("--model", model_, "Model for --local; by default the embedded one")
        ->needs(local)
        ->type_name("MODEL.gguf");
    add_threads(*command, num_threads_);
    add_format(*command, formats_, kFormats);
    command->footer(
        "\nExamples:\n"
        "  refute trace --backend oracle -o oracle.gguf && refute trace -o cpu.gguf\n"
        "  refute compare oracle.gguf cpu.gguf\n"
        "  refute compare oracle.gguf cpu.gguf --local --format json\n"
        "\nThe bounds follow from the two backends (docs/trace.md). Exits with 1 when anything is "
        "beyond them,\n2 when the files are not of the same tokens and model, 4 when they have no "
        "trace point in common,\n5 when this build or machine lacks the backend for --local.");
    return command;
  }

  ExitCode execute() override {
    const Result<std::vector<Output>> outputs = parse_outputs(formats_, kFormats);
    if (!outputs) return fail(outputs.error());
    std::error_code ignored;
    if (std::filesystem::equivalent(reference_, candidate_, ignored)) {
      return fail(ExitCode::kUsageOrUnreadable,
                  reference_ + " compared with itself shows nothing; give two traces");
    }
    Result<TraceFile> reference = read_trace_file(reference_);
    if (!reference) return fail(reference.error());
    Result<TraceFile> candidate = read_trace_file(candidate_);
    if (!candidate) return fail(candidate.error());
    if (const auto same = check_same_run(*reference, *candidate); !same) return fail(same.error());
    CompareReport report{.reference_file = reference_,
                         .candidate_file = candidate_,
                         .reference = *std::move(reference),
                         .candidate = *std::move(candidate),
                         .chained = {},
                         .local = std::nullopt,
                         .replayed_by = ""};
    report.chained = compare_chained(report.reference, report.candidate);
    if (local_) {
      if (const Result<void> replayed = replay(report); !replayed) return fail(replayed.error());
    }
    return finish(
        *outputs, [&](Format format, Style style) { return render_compare(report, format, style); },
        report.exit_code());
  }

 private:
  Result<void> replay(CompareReport& report) const {
    TraceOrigin origin = report.candidate.origin;
    if (!backend_.empty()) origin.backend = backend_;
    if (origin.backend == kExpectationsBackend) {
      return Error{ErrorKind::kUnsupported, "--local", "--backend NAME to replay on",
                   candidate_ + ", which is expectations"};
    }
    const Result<NamedBackend> backend = NamedBackend::create(origin.backend, num_threads_);
    if (!backend) return backend.error();
    const Result<LoadedSubject> subject =
        load_subject({.model = model_, .expected = "none", .num_threads = num_threads_});
    if (!subject) return subject.error();
    if (Result<void> fits = check_model(report.reference, *subject); !fits) return fits;
    report.local = compare_local(report.reference, origin, **backend, subject->model);
    report.replayed_by = (*backend)->description();
    return {};
  }

  // By its hash where the trace knows it, and by every shape.
  Result<void> check_model(const TraceFile& reference, const LoadedSubject& subject) const {
    const std::string& expected = reference.origin.model_sha256;
    const Config& config = subject.model.config();
    bool same = expected.empty() || expected == subject.model_sha256;
    for (const auto& [site, tensor] : reference.tensors) {
      const std::size_t tokens = reference.captures.at(site).num_tokens;
      const TraceShape shape = trace_shape(config, site.point, tokens);
      same = same && site.layer < config.num_hidden_layers &&
             shape == TraceShape{tensor.values.rows(), tensor.values.columns()};
    }
    if (same) return {};
    return Error{
        ErrorKind::kInvalidShape, "--local model",
        "the model of " + reference_ + " (" + reference.origin.subject + "); give it with --model",
        subject.name};
  }

  std::string reference_;
  std::string candidate_;
  bool local_ = false;
  std::string backend_;
  std::string model_;
  std::size_t num_threads_ = 0;
  std::vector<std::string> formats_;
};

}  // namespace

std::unique_ptr<Command> make_compare_command() { return std::make_unique<CompareCommand>(); }

}  // namespace refute
