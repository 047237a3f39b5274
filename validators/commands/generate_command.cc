#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <array>
#include <nlohmann/json.hpp>
#include <optional>

#include "engine/generate.h"
#include "engine/tokenizer.h"
#include "validators/commands/command.h"
#include "validators/commands/shared_options.h"
#include "validators/embedded_files.h"
#include "validators/named_backend.h"
#include "validators/subject_files.h"

namespace refute {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::array kFormats = {Format::kHuman, Format::kJson};

// Nothing where nothing was timed: the first new token comes from the prompt.
std::optional<double> per_second(std::size_t tokens, double seconds) {
  if (tokens == 0 || !(seconds > 0.0)) return std::nullopt;
  return static_cast<double>(tokens) / seconds;
}
std::string at_rate(std::optional<double> rate) {
  return rate ? fmt::format(" at {:.1f} tokens/s", *rate) : "";
}
Json json_of(std::optional<double> rate) { return rate ? Json(*rate) : Json(nullptr); }

class GenerateCommand : public Command {
 public:
  CLI::App* declare(CLI::App& app) override {
    CLI::App* command = app.add_subcommand("generate", "Continue a prompt");
    command->add_option("--subject", subject_, "Model; by default the embedded one")
        ->check(not_empty())
        ->type_name("MODEL.gguf");
    command->add_option("--backend", backend_name_, "cpu, cuda or oracle")
        ->check(CLI::IsMember({"cpu", "cuda", "oracle"}))
        ->type_name("NAME")
        ->capture_default_str();
    add_threads(*command, num_threads_);
    add_attention(*command, attention_);
    CLI::Option* prompt =
        command->add_option("--prompt", prompt_, "Text to continue")->type_name("TEXT");
    command->add_option("--tokens", tokens_, "Token ids to continue, instead of a text")
        ->delimiter(',')
        ->allow_extra_args(false)
        ->excludes(prompt)
        ->type_name("ID,...");
    declare_sampling(*command);
    add_format(*command, formats_, kFormats);
    command->footer(
        "\nExamples:\n"
        "  refute generate --prompt 'In the beginning' -n 64\n"
        "  refute generate --prompt 'And God said' --temperature 0.8 --top-k 40 --seed 7\n"
        "  refute generate --subject model.gguf --tokens 1,2,3 --backend oracle --format json\n"
        "\nText goes to standard output, the speed to standard error. Greedy unless --temperature "
        "is given.");
    return command;
  }

  ExitCode execute() override {
    const Result<std::vector<Output>> outputs = parse_outputs(formats_, kFormats);
    if (!outputs) return fail(outputs.error());
    if (prompt_.empty() && tokens_.empty()) {
      return fail(ExitCode::kUsageOrUnreadable, "generate needs --prompt TEXT or --tokens ID,...");
    }
    const Result<CudaOptions> cuda = parse_attention(attention_, backend_name_);
    if (!cuda) return fail(cuda.error());
    // A file is read once, by the session, where that can look at its scales.
    const bool session_checks = backend_name_ == "cpu";
    Result<Model> model = load_model(
        subject_, num_threads_, session_checks ? ScaleCheck::kWhenOpened : ScaleCheck::kWhenLoaded);
    if (!model) return fail(model.error());
    if (const Result<void> prepared = prepare(*model); !prepared) return fail(prepared.error());
    return run(*model, *outputs, *cuda);
  }

 private:
  void declare_sampling(CLI::App& command) {
    command.add_option("-n,--max-tokens", max_tokens_, "Most tokens to generate")
        ->check(CLI::Range(1, 1 << 24))
        ->type_name("N")
        ->capture_default_str();
    command.add_option("--temperature", sampling_.temperature, "0 is greedy")
        ->type_name("T")
        ->capture_default_str();
    command.add_option("--top-k", sampling_.top_k, "Keep the k likeliest; 0 keeps all")
        ->type_name("K")
        ->capture_default_str();
    command.add_option("--top-p", sampling_.top_p, "Keep the likeliest up to this mass")
        ->type_name("P")
        ->capture_default_str();
    command.add_option("--min-p", sampling_.min_p, "Keep those at least this likely as the first")
        ->type_name("P")
        ->capture_default_str();
    command.add_option("--seed", sampling_.seed, "Seed of the sampler")
        ->type_name("S")
        ->capture_default_str();
    command.add_flag("--ignore-eos", ignore_end_, "Go on past the end-of-text token");
  }

  // Sets the tokenizer, when the model has one that is supported, and the prompt's tokens.
  Result<void> prepare(const Model& model) {
    if (model.tokenizer_data()) {
      Result<Tokenizer> tokenizer = Tokenizer::create(*model.tokenizer_data());
      if (tokenizer) {
        tokenizer_ = *std::move(tokenizer);
      } else if (tokens_.empty()) {
        return tokenizer.error();
      }
    }
    if (!tokens_.empty()) return {};
    if (!tokenizer_) {
      return Error{ErrorKind::kMissingKey, "--prompt", "a model with a tokenizer",
                   "none in this file; give --tokens"};
    }
    Result<std::vector<std::int32_t>> encoded = tokenizer_->encode_prompt(prompt_, true);
    if (!encoded) return encoded.error();
    tokens_ = *std::move(encoded);
    return {};
  }

  ExitCode run(const Model& model, std::span<const Output> outputs, const CudaOptions& cuda) {
    const auto named = NamedBackend::create(backend_name_, num_threads_, {}, cuda);
    if (!named) return fail(named.error());
    const Backend& backend = **named;
    const std::size_t limit = model.config().max_position_embeddings;
    const auto session = backend.open_session(model, std::min(limit, tokens_.size() + max_tokens_));
    if (!session) return fail(session.error());
    Result<Sampler> sampler = Sampler::create(sampling_);
    if (!sampler) return fail(sampler.error());
    GenerateStatistics statistics;
    const bool streams = outputs.size() == 1 && outputs[0].format == Format::kHuman &&
                         outputs[0].file.empty() && tokenizer_.has_value();
    const auto generated = stream(**session, *sampler, streams, statistics);
    if (!generated) return fail(generated.error());
    print_error(fmt::format(
        "{}: prompt {} tokens{}, {} new{}\n", backend.description(), statistics.prompt_tokens,
        at_rate(per_second(statistics.prompt_tokens, statistics.prefill_seconds)),
        generated->size(),
        at_rate(per_second(statistics.decoded_tokens, statistics.decode_seconds))));
    if (streams) return ExitCode::kHeld;
    return finish(
        outputs,
        [&](Format format, Style) {
          return format == Format::kJson ? render_json(backend, *generated, statistics)
                                         : render_text(*generated);
        },
        ExitCode::kHeld);
  }

  // Generates; prints prompt and text as they come when `streams`.
  Result<std::vector<std::int32_t>> stream(Session& session, Sampler& sampler, bool streams,
                                           GenerateStatistics& statistics) {
    std::optional<StreamingDecoder> decoder;
    GenerateOptions options{.max_new_tokens = max_tokens_,
                            .stop_token = std::nullopt,
                            .on_token = [](std::int32_t) { return true; }};
    if (tokenizer_ && !ignore_end_) options.stop_token = tokenizer_->eos();
    if (streams) {
      print(prompt_);
      decoder.emplace(*tokenizer_);
      options.on_token = [&](std::int32_t token) {
        if (const Result<std::string> text = decoder->push(token)) print(*text);
        return true;
      };
    }
    Result<std::vector<std::int32_t>> generated =
        generate(session, sampler, tokens_, options, &statistics);
    if (decoder) print(decoder->finish() + "\n");
    return generated;
  }

  std::string render_text(std::span<const std::int32_t> generated) const {
    if (tokenizer_) {
      const Result<std::string> text = tokenizer_->decode(generated);
      if (text) return prompt_ + *text + "\n";
    }
    std::string ids;
    for (const std::int32_t id : generated) ids += (ids.empty() ? "" : ",") + std::to_string(id);
    return ids + "\n";
  }

  std::string render_json(const Backend& backend, std::span<const std::int32_t> generated,
                          const GenerateStatistics& statistics) const {
    Json json = {{"command", "generate"},
                 {"backend", backend.description()},
                 {"prompt_tokens", tokens_},
                 {"tokens", generated},
                 {"text", nullptr},
                 {"prefill_tokens_per_second",
                  json_of(per_second(statistics.prompt_tokens, statistics.prefill_seconds))},
                 {"decode_tokens_per_second",
                  json_of(per_second(statistics.decoded_tokens, statistics.decode_seconds))}};
    if (tokenizer_) {
      if (const Result<std::string> text = tokenizer_->decode(generated)) json["text"] = *text;
    }
    return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  }

  std::string subject_;
  std::string backend_name_ = "cpu";
  std::string attention_;
  std::size_t num_threads_ = 0;
  std::string prompt_;
  std::vector<std::int32_t> tokens_;
  std::size_t max_tokens_ = 32;
  SamplingOptions sampling_;
  bool ignore_end_ = false;
  std::vector<std::string> formats_;
  std::optional<Tokenizer> tokenizer_;
};

}  // namespace

std::unique_ptr<Command> make_generate_command() { return std::make_unique<GenerateCommand>(); }

}  // namespace refute
