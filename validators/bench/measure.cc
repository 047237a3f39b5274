#include "validators/bench/measure.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "falsifiers/metrics.h"
#include "falsifiers/traced_run.h"
#include "kernels/median.h"
#include "validators/bench/machine.h"

namespace refute {
namespace {

constexpr std::size_t kFillChunk = 512;  // Tokens a call that fills the cache.

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

Result<void> fill(Session& session, std::span<const std::int32_t> tokens) {
  for (std::size_t begin = 0; begin < tokens.size(); begin += kFillChunk) {
    const std::size_t count = std::min(kFillChunk, tokens.size() - begin);
    if (auto ok = session.forward(tokens.subspan(begin, count), {}); !ok) return ok.error();
  }
  return {};
}

// One round from shape.depth; its times are appended when `counts`.
Result<void> run_round(Session& session, std::span<const std::int32_t> prompt, bool counts,
                       BenchPoint& point) {
  if (auto ok = session.rollback(point.shape.depth); !ok) return ok.error();
  auto start = std::chrono::steady_clock::now();
  const auto logits = session.forward(prompt, {});
  const double prefill = seconds_since(start);
  if (!logits) return logits.error();
  const auto token = static_cast<std::int32_t>(argmax_per_row(logits->view()).front());
  start = std::chrono::steady_clock::now();
  const auto decoded = session.decode_greedy(token, point.shape.decode);
  const double decode = seconds_since(start);
  if (!decoded) return decoded.error();
  if (counts) {
    point.prefill.seconds.push_back(prefill);
    point.decode.seconds.push_back(decode);
  }
  return {};
}

}  // namespace

double Series::median() const { return refute::median(seconds); }

double Series::spread() const {
  const auto [least, most] = std::ranges::minmax(seconds);
  return (most - least) / median();
}

std::optional<double> BenchPoint::share() const {
  if (!bandwidth) return std::nullopt;
  return bytes_per_second() / bandwidth->median;
}

std::optional<double> BenchPoint::share_of_best() const {
  if (!bandwidth) return std::nullopt;
  return bytes_per_second() / bandwidth->best;
}

std::optional<ReadBandwidth> over_turns(std::span<const ReadBandwidth> turns) {
  if (turns.empty()) return std::nullopt;
  std::vector<double> medians;
  double best = 0.0;
  for (const ReadBandwidth& turn : turns) {
    medians.push_back(turn.median);
    best = std::max(best, turn.best);
  }
  return ReadBandwidth{median(std::move(medians)), best};
}

double decode_bytes(const Model& model, double position) {
  constexpr double kBytesOfHalf = 2.0;
  const Config& config = model.config();
  const auto row = static_cast<double>(config.attention_shape().key_value_size());
  const double keys_and_values =
      2.0 * kBytesOfHalf * row * static_cast<double>(config.num_hidden_layers);
  return static_cast<double>(model.bytes_per_token()) + keys_and_values * position;
}

Result<BenchPoint> measure_point(const Backend& backend, const Model& model, std::size_t threads,
                                 const BenchShape& shape, const BenchProgress& progress) {
  const std::size_t limit = model.config().max_position_embeddings;
  const std::size_t capacity = shape.depth + shape.prompt + shape.decode;
  if (capacity > limit) {
    return Error{ErrorKind::kContextFull, "depth, prompt and decode",
                 "at most " + std::to_string(limit) + " positions", std::to_string(capacity)};
  }
  BenchPoint point{.threads = threads,
                   .layers = model.config().num_hidden_layers,
                   .shape = shape,
                   .prefill = {.seconds = {}, .tokens = shape.prompt},
                   .decode = {.seconds = {}, .tokens = shape.decode}};
  // The decoded tokens stand at positions depth + prompt and on, each reading itself too.
  point.bytes_per_token = decode_bytes(model, static_cast<double>(shape.depth + shape.prompt) +
                                                  0.5 * (static_cast<double>(shape.decode) + 1.0));
  reset_peak_memory();
  auto session = backend.open_session(model, capacity);
  if (!session) return session.error();
  const auto tokens = random_tokens(model.config(), shape.seed, shape.depth + shape.prompt);
  const std::span<const std::int32_t> all = tokens;
  if (auto ok = fill(**session, all.first(shape.depth)); !ok) return ok.error();
  std::vector<ReadBandwidth> turns;
  for (std::size_t i = 0; i <= shape.repeats; ++i) {  // The first round warms up.
    if (auto ok = run_round(**session, all.subspan(shape.depth), i > 0, point); !ok) {
      return ok.error();
    }
    if (i == shape.repeats) point.clock_mhz = read_clock_mhz(backend.id());
    // Without the memory that is read for the bandwidth.
    point.memory_bytes = std::max(point.memory_bytes, peak_memory());
    if (const auto turn = backend.measure_read_bandwidth()) turns.push_back(*turn);
    reset_peak_memory();
    progress(i + 1, shape.repeats + 1);
  }
  session->reset();  // A device's memory is asked with a session of its own.
  if (const auto use = backend.memory_use(model, capacity)) {
    point.memory_bytes = use->used;
    point.memory_total = use->total;
  }
  // A device that the model fills has room for it only now.
  if (turns.empty()) {
    if (const auto once = backend.measure_read_bandwidth()) turns.push_back(*once);
  }
  point.bandwidth = over_turns(turns);
  return point;
}

}  // namespace refute
