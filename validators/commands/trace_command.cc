#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>
#include <system_error>

#include "engine/trace_file.h"
#include "falsifiers/traced_run.h"
#include "validators/build_info.h"
#include "validators/commands/command.h"
#include "validators/commands/shared_options.h"
#include "validators/named_backend.h"
#include "validators/subject_files.h"
#include "validators/trace/recording.h"
#include "validators/trace/report_trace.h"
#include "validators/trace/selection.h"

namespace refute {
namespace {

constexpr std::array kFormats = {Format::kHuman, Format::kJson};
constexpr std::size_t kDefaultTokens = 24;

class TraceCommand : public Command {
 public:
  CLI::App* declare(CLI::App& app) override {
    CLI::App* command = app.add_subcommand("trace", "Record the trace points of one run in a file");
    command->add_option("MODEL", model_, "Model; by default the embedded one")
        ->check(not_empty())
        ->type_name("MODEL.gguf");
    command->add_option("-o,--output", output_, "File to write, for refute compare")
        ->required()
        ->type_name("FILE");
    command->add_flag("--force", force_, "Replace the file when it exists");
    command->add_option("--backend", backend_, "oracle, oracle-emulated, cpu, cuda or wgpu")
        ->type_name("NAME")
        ->capture_default_str();
    add_threads(*command, num_threads_);
    declare_tokens(*command);
    declare_selection(*command);
    add_format(*command, formats_, kFormats);
    command->footer(
        "\nExamples:\n"
        "  refute trace --backend oracle --output oracle.gguf\n"
        "  refute trace --backend cpu --output cpu.gguf && refute compare oracle.gguf cpu.gguf\n"
        "  refute trace model.gguf --prompt-length 64 --seed 7 --point 'expert_*' --layer 4-7 "
        "-o experts.gguf\n"
        "\nExits with 1 when the forward pass ends with an error (what it recorded before is "
        "written) or\nrecords NaN or Inf, with 5 when this build or machine lacks the backend.");
    return command;
  }

  ExitCode execute() override {
    const Result<std::vector<Output>> outputs = parse_outputs(formats_, kFormats);
    if (!outputs) return fail(outputs.error());
    if (const auto ok = check_new_file(output_, force_); !ok) return fail(ok.error());
    const Result<NamedBackend> backend = NamedBackend::create(backend_, num_threads_);
    if (!backend) return fail(backend.error());
    const Result<LoadedSubject> subject =
        load_subject({.model = model_, .expected = "", .num_threads = num_threads_});
    if (!subject) return fail(subject.error());
    const Result<TraceFile> trace = record(*subject, *backend);
    if (!trace) return fail(trace.error());
    if (const Result<void> written = write(*trace); !written) return fail(written.error());
    const std::vector<SiteSummary> sites = summarise(*trace);
    const bool finite =
        std::ranges::all_of(sites, [](const SiteSummary& site) { return site.non_finite == 0; });
    return finish(
        *outputs,
        [&](Format format, Style style) {
          return render_trace(*trace, sites, output_, format, style);
        },
        finite && trace->origin.error.empty() ? ExitCode::kHeld : ExitCode::kRefutedOrInvalid);
  }

 private:
  void declare_tokens(CLI::App& command) {
    CLI::Option* tokens =
        command
            .add_option("--tokens", tokens_,
                        "Token ids; by default those of the expectations beside the model, without "
                        "such 24 random ones")
            ->delimiter(',')
            ->allow_extra_args(false)
            ->type_name("ID,...");
    command.add_option("--prompt-length", prompt_length_, "As many random tokens instead")
        ->check(CLI::Range(1, 1 << 24))
        ->excludes(tokens)
        ->type_name("N");
    command.add_option("--seed", seed_, "Seed of random tokens")
        ->type_name("S")
        ->capture_default_str();
    command.add_option("--chunk", chunk_, "Tokens a call; 0 gives all of them at once")
        ->type_name("N")
        ->capture_default_str();
    command.add_option("--routes", routes_, "Take the experts that this trace took")
        ->type_name("TRACE.gguf");
  }

  void declare_selection(CLI::App& command) {
    command
        .add_option("--point", points_,
                    "Keep only trace points that fit a glob: 'expert_*', 'blk.3.moe_out'")
        ->delimiter(',')
        ->allow_extra_args(false)
        ->type_name("GLOB,...");
    command.add_option("--layer", layers_, "Keep only these layers: 0,4-7")
        ->delimiter(',')
        ->allow_extra_args(false)
        ->type_name("N,...");
  }

  Result<std::vector<std::int32_t>> tokens_for(const LoadedSubject& subject) const {
    const Config& config = subject.model.config();
    if (!tokens_.empty()) return tokens_;
    if (!prompt_length_ && subject.pack) return subject.pack->tokens();
    const std::size_t wanted =
        prompt_length_.value_or(std::min(kDefaultTokens, config.max_position_embeddings));
    if (wanted > config.max_position_embeddings) {
      return Error{ErrorKind::kContextFull, "--prompt-length",
                   "at most " + std::to_string(config.max_position_embeddings),
                   std::to_string(wanted)};
    }
    return random_tokens(config, seed_, wanted);
  }

  Result<TraceFile> record(const LoadedSubject& subject, const NamedBackend& backend) const {
    const Config& config = subject.model.config();
    const auto selection = TraceSelection::create(points_, layers_, config.num_hidden_layers);
    if (!selection) return selection.error();
    const auto tokens = tokens_for(subject);
    if (!tokens) return tokens.error();
    std::optional<ForcedRoutes> forced;
    std::string routes_text = "own";
    if (!routes_.empty()) {
      const auto other = read_trace_file(routes_);
      if (!other) return other.error();
      auto routes = routes_of_trace(*other, routes_, config, *tokens);
      if (!routes) return routes.error();
      forced = *std::move(routes);
      routes_text = "forced by " + other->origin.backend;
    }
    TraceOrigin origin{.subject = subject.name,
                       .model_sha256 = subject.model_sha256,
                       .backend = backend.name(),
                       .description = backend->description(),
                       .version = std::string(build_info().version),
                       .tree_sha256 = std::string(build_info().tree_sha256),
                       .routes = routes_text,
                       .error = "",
                       .chunk = 0};
    return record_run(
        *backend, subject.model, *selection,
        {.tokens = *tokens, .chunk = chunk_, .forced_routes = forced ? &*forced : nullptr},
        std::move(origin));
  }

  // Writes beside the file and renames, so that an interrupted run leaves no half of a trace.
  Result<void> write(const TraceFile& trace) const {
    const std::string partial = output_ + ".partial";
    std::error_code error;
    if (Result<void> written = write_trace_file(trace, partial); !written) {
      std::filesystem::remove(partial, error);
      return written;
    }
    std::filesystem::rename(partial, output_, error);
    if (error) {
      return Error{ErrorKind::kUnreadable, output_, "a file that can be written", error.message()};
    }
    return {};
  }

  std::string model_;
  std::string output_;
  bool force_ = false;
  std::string backend_ = "cpu";
  std::size_t num_threads_ = 0;
  std::vector<std::int32_t> tokens_;
  std::optional<std::size_t> prompt_length_;
  std::uint64_t seed_ = 1;
  std::size_t chunk_ = 0;
  std::string routes_;
  std::vector<std::string> points_;
  std::vector<std::string> layers_;
  std::vector<std::string> formats_;
};

}  // namespace

std::unique_ptr<Command> make_trace_command() { return std::make_unique<TraceCommand>(); }

}  // namespace refute
