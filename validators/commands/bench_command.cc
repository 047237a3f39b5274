#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <optional>
#include <thread>

#include "validators/bench/machine.h"
#include "validators/bench/report_bench.h"
#include "validators/build_info.h"
#include "validators/commands/command.h"
#include "validators/commands/shared_options.h"
#include "validators/embedded_files.h"
#include "validators/host.h"
#include "validators/named_backend.h"
#include "validators/progress.h"
#include "validators/subject_files.h"
#include "validators/suggest.h"

namespace refute {
namespace {

constexpr std::array kFormats = {Format::kHuman, Format::kJson, Format::kCsv};
constexpr std::array kBackends = {BackendId::kCpu, BackendId::kCuda};
constexpr std::size_t kFewestRepeats = 5;
constexpr std::size_t kShortestPrompt = 16;  // Of a sweep over prompts.
constexpr std::size_t kDeepest = 4096;       // Of a sweep over contexts, where there is room.

using Values = std::vector<std::size_t>;

// One step of a sweep.
struct Step {
  std::size_t threads = 0;
  std::size_t layers = 0;
  BenchShape shape;
};

// first, 2 first, 4 first ... and last.
Values doubling(std::size_t first, std::size_t last) {
  Values values;
  for (std::size_t value = first; value < last; value *= 2) values.push_back(value);
  values.push_back(last);
  return values;
}

class BenchCommand : public Command {
 public:
  CLI::App* declare(CLI::App& app) override {
    CLI::App* command = app.add_subcommand("bench", "Measure prefill and decode");
    command->add_option("MODEL", model_, "Model; by default the embedded one")
        ->check(not_empty())
        ->type_name("MODEL.gguf");
    command->add_option("--backend", backend_, "cpu or cuda")
        ->type_name("NAME")
        ->capture_default_str();
    command->add_option("--threads", threads_, "Threads of the CPU; by default all processors")
        ->delimiter(',')
        ->allow_extra_args(false)
        ->check(CLI::Range(1, 4096))
        ->type_name("N,...");
    command
        ->add_option("--isa", isa_text_,
                     "Instruction set of the CPU, instead of the best one: portable, avx2 or "
                     "avx512-vnni")
        ->type_name("NAME");
    add_attention(*command, attention_text_);
    declare_shape(*command);
    declare_sweep(*command);
    add_format(*command, formats_, kFormats);
    command->footer(
        "\nExamples:\n"
        "  refute bench\n"
        "  refute bench model.gguf --prompt 128 --decode 64 --threads 1,2\n"
        "  refute bench model.gguf --sweep layers --format human --format csv=layers.csv\n"
        "  refute bench model.gguf --sweep context --depth 8192\n"
        "  refute bench model.gguf --backend cuda --attention tensor --prompt 2048\n"
        "\nBytes a token are those of the weights and of the cache that a decoded token reads; the "
        "bandwidth is\nmeasured in the same run with the same threads. A share above 100 % is an "
        "error (exit code 3).");
    return command;
  }

  ExitCode execute() override {
    const Result<std::vector<Output>> outputs = parse_outputs(formats_, kFormats);
    if (!outputs) return fail(outputs.error());
    if (const Result<void> parsed = parse(); !parsed) return fail(parsed.error());
    Result<Model> model = load_model(model_, 0);
    if (!model) return fail(model.error());
    const Result<BenchReport> report = run(*model);
    if (!report) return fail(report.error());
    for (const std::string& error : report->errors()) print_error("refute: " + error + "\n");
    return finish(
        *outputs, [&](Format format, Style style) { return render_bench(*report, format, style); },
        report->exit_code());
  }

 private:
  void declare_shape(CLI::App& command) {
    const auto add = [&](const char* name, std::size_t& value, const char* text,
                         std::size_t least) {
      command.add_option(name, value, text)
          ->check(CLI::Range(least, std::size_t{1} << 24))
          ->type_name("N")
          ->capture_default_str();
    };
    add("--prompt", shape_.prompt, "Tokens of the prompt", 1);
    add("--decode", shape_.decode, "Tokens decoded after it", 1);
    add("--depth", shape_.depth, "Positions held before the prompt", 0);
    add("--repeats", shape_.repeats, "Timed rounds, after one that warms up", kFewestRepeats);
    command.add_option("--layers", layers_, "Cut the model to its first layers")
        ->check(CLI::Range(std::size_t{1}, std::size_t{1} << 16))
        ->type_name("N");
    command.add_option("--seed", shape_.seed, "Seed of the tokens")
        ->type_name("S")
        ->capture_default_str();
  }

  void declare_sweep(CLI::App& command) {
    CLI::Option* sweep = command
                             .add_option("--sweep", sweep_text_,
                                         "Vary layers, context, prompt or threads, and fit how the "
                                         "cost grows")
                             ->type_name("NAME");
    command.add_option("--values", values_, "Values of the sweep, instead of its own")
        ->delimiter(',')
        ->allow_extra_args(false)
        ->needs(sweep)
        ->type_name("N,...");
  }

  Result<void> parse() {
    std::vector<std::string_view> names;
    for (const BackendId id : kBackends) names.push_back(backend_name(id));
    if (std::ranges::find(names, backend_) == names.end()) {
      return Error{ErrorKind::kUnsupported, "--backend",
                   "a backend to time (" + suggest(backend_, names) + ")", "`" + backend_ + "`"};
    }
    if (!isa_text_.empty()) {
      isa_ = cpu::parse_isa(isa_text_);
      if (!isa_) {
        std::vector<std::string_view> isas;
        for (const cpu::Isa isa : cpu::supported_isas()) isas.push_back(cpu::isa_name(isa));
        return Error{ErrorKind::kUnsupported, "--isa",
                     "an instruction set (" + suggest(isa_text_, isas) + ")",
                     "`" + isa_text_ + "`"};
      }
    }
    const Result<CudaOptions> cuda = parse_attention(attention_text_, backend_);
    if (!cuda) return cuda.error();
    cuda_ = *cuda;
    if (threads_.empty()) {
      threads_ = {std::max<std::size_t>(1, std::thread::hardware_concurrency())};
    }
    if (sweep_text_.empty()) return {};
    const auto kind = parse_sweep(sweep_text_);
    if (kind == SweepKind::kThreads && backend_ != backend_name(BackendId::kCpu)) {
      return Error{ErrorKind::kUnsupported, "--sweep threads", "--backend cpu", backend_};
    }
    if (kind && kind != SweepKind::kThreads && threads_.size() > 1) {
      return Error{ErrorKind::kUnsupported, "--threads with --sweep " + sweep_text_,
                   "one number of threads", std::to_string(threads_.size())};
    }
    if (kind) {
      sweep_ = *kind;
      return {};
    }
    std::vector<std::string_view> sweeps;
    for (const SweepKind known :
         {SweepKind::kLayers, SweepKind::kContext, SweepKind::kPrompt, SweepKind::kThreads}) {
      sweeps.push_back(sweep_name(known));
    }
    return Error{ErrorKind::kUnsupported, "--sweep",
                 "a sweep (" + suggest(sweep_text_, sweeps) + ")", "`" + sweep_text_ + "`"};
  }

  // The values of the sweep, ascending, none twice.
  Values sweep_values(const Config& config) const {
    Values values = values_;
    if (values.empty()) {
      const std::size_t taken = shape_.prompt + shape_.decode;
      const std::size_t room =
          config.max_position_embeddings - std::min(config.max_position_embeddings, taken);
      switch (sweep_) {
        case SweepKind::kLayers:
          values = doubling(1, layers_.value_or(config.num_hidden_layers));
          break;
        case SweepKind::kContext: {
          const std::size_t deepest = shape_.depth > 0 ? shape_.depth : std::min(kDeepest, room);
          values = {0, deepest / 4, deepest / 2, deepest};
          break;
        }
        case SweepKind::kPrompt:
          values = doubling(std::min(kShortestPrompt, shape_.prompt), shape_.prompt);
          break;
        case SweepKind::kThreads:
          values = doubling(1, *std::ranges::max_element(threads_));
          break;
        case SweepKind::kNone:
          break;
      }
    }
    std::ranges::sort(values);
    values.erase(std::unique(values.begin(), values.end()), values.end());
    return values;
  }

  Result<std::vector<Step>> steps(const Config& config) const {
    const std::size_t layers = layers_.value_or(config.num_hidden_layers);
    std::vector<Step> steps;
    if (sweep_ == SweepKind::kNone) {
      for (const std::size_t threads : threads_) steps.push_back({threads, layers, shape_});
    }
    for (const std::size_t value : sweep_values(config)) {
      Step step{threads_.front(), layers, shape_};
      if (sweep_ == SweepKind::kLayers) step.layers = value;
      if (sweep_ == SweepKind::kContext) step.shape.depth = value;
      if (sweep_ == SweepKind::kPrompt) step.shape.prompt = value;
      if (sweep_ == SweepKind::kThreads) step.threads = value;
      steps.push_back(step);
    }
    for (const Step& step : steps) {
      if (step.layers == 0 || step.layers > config.num_hidden_layers) {
        return Error{ErrorKind::kInvalidShape, "--layers",
                     "1 to " + std::to_string(config.num_hidden_layers),
                     std::to_string(step.layers)};
      }
      if (step.threads == 0 || step.shape.prompt == 0) {
        return Error{ErrorKind::kInvalidShape, "--values", "at least 1", "0"};
      }
    }
    return steps;
  }

  Result<BenchReport> run(Model& model) const {
    BenchReport report;
    report.subject = model_.empty() ? std::string(kEmbeddedSubjectName) + " (embedded)" : model_;
    report.tree_sha256 = std::string(build_info().tree_sha256);
    report.weight_bytes = model.weight_bytes();
    report.load_average = load_average();
    report.processors = std::thread::hardware_concurrency();
    report.sweep = sweep_;
    auto planned = steps(model.config());
    if (!planned) return planned.error();
    // Layers can only be taken away, so the deepest comes first.
    std::ranges::stable_sort(*planned, std::greater<>(), &Step::layers);
    Progress progress;
    for (const Step& step : *planned) {
      if (step.layers < model.config().num_hidden_layers) model.keep_layers(step.layers);
      const auto backend = NamedBackend::create(backend_, step.threads, isa_, cuda_);
      if (!backend) return backend.error();
      const std::string label =
          fmt::format("{} threads, {} layers, depth {}, prompt {}", step.threads, step.layers,
                      step.shape.depth, step.shape.prompt);
      auto point = measure_point(
          **backend, model, step.threads, step.shape,
          [&](std::size_t done, std::size_t total) { progress.show(done, total, label); });
      if (!point) return point.error();
      report.points.push_back(*std::move(point));
      report.backend = (*backend)->description();
      report.device = (*backend)->id() == BackendId::kCpu ? describe(read_host_info())
                                                          : (*backend)->description();
    }
    progress.clear();
    std::ranges::stable_sort(report.points, {}, &BenchPoint::layers);
    return report;
  }

  std::string model_;
  std::string backend_ = "cpu";
  Values threads_;
  std::string isa_text_;
  std::optional<cpu::Isa> isa_;
  std::string attention_text_;
  CudaOptions cuda_;
  BenchShape shape_;
  std::optional<std::size_t> layers_;
  std::string sweep_text_;
  SweepKind sweep_ = SweepKind::kNone;
  Values values_;
  std::vector<std::string> formats_;
};

}  // namespace

std::unique_ptr<Command> make_bench_command() { return std::make_unique<BenchCommand>(); }

}  // namespace refute
