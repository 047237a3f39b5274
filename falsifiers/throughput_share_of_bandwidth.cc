// Claim: decoding one token of a model of the real shape reads the
// weights at no less than 29 % of the read bandwidth that was
//   measured in the same run, and at no more than 100 % of it.
// Why it must hold: decode is bound by memory. 150 tokens/s on an RTX 4090, the public contract's
//   figure, is 29 % of that card's bandwidth; a share carries over to other cards and does not
//   flake with their clocks.
// Catches: weights read twice or dequantized in memory, launches that leave the device idle.
// Misses: slow prefill and long contexts; a device that is slow in both measurements.
// Source: AC_GPU_MOE_006 of the public contract qwen3-moe-forward-gpu-v1.
#include "falsifiers/throughput_share_of_bandwidth.h"

#include <unistd.h>

#include <array>
#include <chrono>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "engine/backend.h"
#include "engine/model.h"
#include "engine/synth.h"
#include "engine/synth_presets.h"
#include "falsifiers/judge.h"
#include "falsifiers/traced_run.h"
#include "kernels/check.h"
#include "kernels/median.h"

namespace refute {
namespace {

constexpr std::size_t kPromptTokens = 16;
constexpr std::size_t kDecodedTokens = 64;
constexpr std::size_t kSeries = 5;

constexpr std::array<MetricInfo, 2> kMetrics = {{
    {"share", "bytes of weights a second of decode over the measured read bandwidth", true, 0.29},
    {"impossible_share", "the same, as an upper bound: above 1 a measurement is wrong", false, 1.0},
}};

constexpr std::array<BackendId, 1> kBackends = {BackendId::kCuda};

// The real shape whole: 1.9 GB a token, and 18.6 GB of file.
constexpr std::string_view kPreset = "qwen3-30b-a3b";

// A path that is free, and the file there gone in the end.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& name)
      : path_(std::filesystem::temp_directory_path() /
              ("refute-" + name + "-" + std::to_string(::getpid()) + ".gguf")) {}
  ~TemporaryFile() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// Seconds for kDecodedTokens tokens, decoded greedily in one call.
Result<double> time_decode(Session& session, std::span<const std::int32_t> prompt) {
  if (auto ok = session.rollback(0); !ok) return ok.error();
  if (auto ok = session.forward(prompt, {}); !ok) return ok.error();
  const auto start = std::chrono::steady_clock::now();
  const auto decoded = session.decode_greedy(prompt.front(), kDecodedTokens);
  const auto end = std::chrono::steady_clock::now();
  if (!decoded) return decoded.error();
  return std::chrono::duration<double>(end - start).count();
}

}  // namespace

Verdict judge_throughput(const Backend& backend, const Model& model, double bandwidth,
                         const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  const auto prompt = random_tokens(model.config(), criterion.seed, kPromptTokens);
  auto session = backend.open_session(model, kPromptTokens + kDecodedTokens);
  if (!session) {
    judge_subject_error(session.error(), "open_session", &judge);
    return judge.verdict();
  }
  std::vector<double> seconds;
  for (std::size_t i = 0; i <= kSeries; ++i) {  // The first series warms up and does not count.
    const auto series = time_decode(**session, prompt);
    if (!series) return Verdict::error(series.error().message());
    if (i > 0) seconds.push_back(*series);
  }
  const double tokens_per_second = static_cast<double>(kDecodedTokens) / median(std::move(seconds));
  const double share = static_cast<double>(model.bytes_per_token()) * tokens_per_second / bandwidth;
  const std::string where = std::to_string(tokens_per_second) + " tokens/s of " +
                            std::to_string(model.bytes_per_token()) + " bytes, " +
                            std::to_string(bandwidth / 1e9) + " GB/s";
  const bool fast = judge.measure("share", share, where);
  const bool possible = judge.measure("impossible_share", share, where);
  judge.note(where);
  judge.count_case(!fast || !possible);
  return judge.verdict();
}

Verdict falsify_throughput_share_of_bandwidth(const Subject& subject, const Criterion& criterion) {
  const auto bandwidth = subject.backend.measure_read_bandwidth();
  if (!bandwidth) {
    return Verdict::not_run(subject.backend.description() + " cannot measure its read bandwidth");
  }
  auto options = synth_preset(kPreset);
  CHECK(options);
  options->seed = criterion.seed;
  const TemporaryFile file("throughput");
  if (const auto ok = write_synthetic_model(*options, file.path()); !ok) {
    return Verdict::error(ok.error().message());
  }
  const auto model = Model::load(file.path());
  if (!model) return Verdict::error(model.error().message());
  return judge_throughput(subject.backend, *model, bandwidth->best, criterion);
}

const FalsifierInfo& throughput_share_of_bandwidth_info() {
  static constexpr FalsifierInfo kInfo = {
      .id = "throughput.share_of_bandwidth",
      .claim =
          "Decode of a model of the real shape, with few tokens of context, reads the weights at "
          "29 % "
          "or more of the read bandwidth measured in the same run.",
      .why = "Decode is bound by memory; 29 % is what 150 tokens/s on an RTX 4090 means.",
      .catches = "Weights read twice, dequantized in memory, or launches that leave gaps.",
      .misses = "Slow prefill and long contexts; a device that is slow in both measurements.",
      .source = "AC_GPU_MOE_006 of the public contract qwen3-moe-forward-gpu-v1.",
      .metrics = kMetrics,
      .backends = kBackends,
      .needs_model = false,
      .needs_pack = false,
      .falsify = falsify_throughput_share_of_bandwidth,
      .measures_time = true,
  };
  return kInfo;
}

}  // namespace refute
