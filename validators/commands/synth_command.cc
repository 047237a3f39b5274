#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <optional>
#include <system_error>

#include "engine/synth.h"
#include "engine/synth_presets.h"
#include "validators/commands/command.h"
#include "validators/commands/shared_options.h"
#include "validators/progress.h"

namespace refute {
namespace {

// A dimension that may be given instead of the preset's.
struct Dimension {
  const char* option;
  std::size_t Config::*field;
  const char* meaning;
};

constexpr Dimension kDimensions[] = {
    {"--hidden-size", &Config::hidden_size, "Width of the residual stream"},
    {"--attention-heads", &Config::num_attention_heads, "Query heads"},
    {"--key-value-heads", &Config::num_key_value_heads, "Key-value heads"},
    {"--head-dim", &Config::head_dim, "Elements a head"},
    {"--experts", &Config::num_experts, "Experts a layer"},
    {"--experts-per-token", &Config::num_experts_per_tok, "Experts chosen a token"},
    {"--moe-intermediate-size", &Config::moe_intermediate_size, "Inner width of an expert"},
    {"--vocab-size", &Config::vocab_size, "Tokens"},
    {"--context", &Config::max_position_embeddings, "Most positions"},
};

class SynthCommand : public Command {
 public:
  CLI::App* declare(CLI::App& app) override {
    CLI::App* command = app.add_subcommand("synth", "Write a synthetic model of a given shape");
    command->add_option("OUT", out_, "File to write")->required()->type_name("OUT.gguf");
    std::string presets;
    for (const SynthPreset& preset : synth_presets()) {
      presets += fmt::format("\n  {:<15} {}", preset.name, preset.description);
    }
    command->add_option("--preset", preset_, "Shape and types to start from; see below")
        ->type_name("NAME")
        ->capture_default_str();
    command->add_option("--layers", layers_, "Layers, instead of the preset's")->type_name("N");
    for (std::size_t i = 0; i < std::size(kDimensions); ++i) {
      command->add_option(kDimensions[i].option, dimensions_[i], kDimensions[i].meaning)
          ->type_name("N");
    }
    command->add_option("--rope-theta", rope_theta_, "Base of the rotary angles")->type_name("X");
    command->add_flag("--tie-embeddings", tie_embeddings_, "The LM head is the embedding");
    command->add_flag("--no-renormalise", no_renormalise_, "Expert weights are not renormalised");
    command
        ->add_option("--type", types_,
                     "Type of one weight in all layers or in one: down_proj=Q8_0, "
                     "3.down_proj=F16, lm_head=Q6_K")
        ->allow_extra_args(false)
        ->type_name("WEIGHT=TYPE");
    command->add_option("--seed", seed_, "Seed of the weights")
        ->type_name("S")
        ->capture_default_str();
    add_threads(*command, num_threads_);
    command->add_flag("--force", force_, "Replace the file when it exists");
    command->footer("\nPresets:" + presets +
                    "\n\nExamples:\n"
                    "  refute synth small.gguf --preset tiny --seed 7\n"
                    "  refute synth four.gguf --preset qwen3-30b-a3b --layers 4\n"
                    "  refute synth mix.gguf --preset tiny --type down_proj=Q8_0 --experts 16");
    return command;
  }

  ExitCode execute() override {
    if (const auto ok = check_new_file(out_, force_); !ok) return fail(ok.error());
    const Result<SynthOptions> options = make_options();
    return options ? write(*options) : fail(options.error());
  }

 private:
  Result<SynthOptions> make_options() const {
    Result<SynthOptions> options = synth_preset(preset_, layers_);
    if (!options) return options.error();
    for (std::size_t i = 0; i < std::size(kDimensions); ++i) {
      if (dimensions_[i]) options->config.*kDimensions[i].field = *dimensions_[i];
    }
    if (rope_theta_) options->config.rope_theta = *rope_theta_;
    if (tie_embeddings_) options->config.tie_word_embeddings = true;
    if (no_renormalise_) options->config.norm_topk_prob = false;
    options->seed = seed_;
    options->num_threads = num_threads_;
    for (const std::string& text : types_) {
      if (const Result<void> set = set_type(*options, text); !set) return set.error();
    }
    return options;
  }

  static Result<void> set_type(SynthOptions& options, const std::string& text) {
    const std::size_t equals = text.find('=');
    const auto type =
        equals == std::string::npos ? std::nullopt : parse_tensor_type(text.substr(equals + 1));
    if (!type) {
      return Error{ErrorKind::kUnsupported, "--type", "WEIGHT=TYPE (see refute list types)",
                   "`" + text + "`"};
    }
    return set_synth_type(options, text.substr(0, equals), *type);
  }

  // Writes beside the file and renames, so that an interrupted run leaves no half of a model.
  ExitCode write(const SynthOptions& options) const {
    const std::string partial = out_ + ".partial";
    Progress progress;
    const Result<void> written =
        write_synthetic_model(options, partial, [&](std::size_t done, std::size_t total) {
          constexpr std::size_t kMebibyte = 1024 * 1024;
          progress.show(done / kMebibyte, std::max<std::size_t>(1, total / kMebibyte),
                        "MiB " + out_);
        });
    progress.clear();
    std::error_code error;
    if (!written) {
      std::filesystem::remove(partial, error);
      return fail(written.error());
    }
    std::filesystem::rename(partial, out_, error);
    if (error) return fail(ExitCode::kUsageOrUnreadable, out_ + ": " + error.message());
    print(fmt::format("{}: {} layers, {} bytes, seed {}\n", out_, options.config.num_hidden_layers,
                      std::filesystem::file_size(out_, error), options.seed));
    return ExitCode::kHeld;
  }

  std::string out_;
  std::string preset_ = "tiny";
  std::optional<std::size_t> layers_;
  std::optional<std::size_t> dimensions_[std::size(kDimensions)];
  std::optional<double> rope_theta_;
  bool tie_embeddings_ = false;
  bool no_renormalise_ = false;
  std::vector<std::string> types_;
  std::uint64_t seed_ = 1;
  std::size_t num_threads_ = 0;
  bool force_ = false;
};

}  // namespace

std::unique_ptr<Command> make_synth_command() { return std::make_unique<SynthCommand>(); }

}  // namespace refute
