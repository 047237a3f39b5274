#include "falsifiers/traced_run.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "falsifiers/metrics.h"
#include "falsifiers/oracle_pack.h"
#include "falsifiers/seeded_random.h"
#include "kernels/check.h"

namespace refute {
namespace {

Matrix<double> appended(Matrix<double> first, const Matrix<double>& second) {
  if (first.rows() == 0) return second;
  std::vector<double> values;
  values.reserve(first.size() + second.size());
  values.insert(values.end(), first.flat().begin(), first.flat().end());
  values.insert(values.end(), second.flat().begin(), second.flat().end());
  return {first.rows() + second.rows(), second.columns(), std::move(values)};
}

MatrixView<const double> first_rows(const Matrix<double>& matrix, std::size_t rows) {
  CHECK(rows <= matrix.rows());
  return {matrix.data(), rows, matrix.columns()};
}

}  // namespace

std::vector<TraceSite> forward_order(const Config& config) {
  std::vector<TraceSite> order;
  std::vector<TracePoint> in_layer;
  std::vector<TracePoint> after;
  for (const TracePoint point : all_trace_points()) {
    if (is_per_layer(point)) {
      in_layer.push_back(point);
    } else if (in_layer.empty()) {
      order.push_back({point, 0});
    } else {
      after.push_back(point);
    }
  }
  for (std::size_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    for (const TracePoint point : in_layer) order.push_back({point, layer});
  }
  for (const TracePoint point : after) order.push_back({point, 0});
  return order;
}

TraceShape trace_shape(const Config& config, TracePoint point, std::size_t num_tokens) {
  const AttentionShape heads = config.attention_shape();
  const std::size_t slots = num_tokens * config.num_experts_per_tok;
  switch (point) {
    case TracePoint::kQ:
    case TracePoint::kQNorm:
    case TracePoint::kQRope:
    case TracePoint::kAttnHeads:
      return {num_tokens, heads.query_size()};
    case TracePoint::kK:
    case TracePoint::kV:
    case TracePoint::kKNorm:
    case TracePoint::kKRope:
      return {num_tokens, heads.key_value_size()};
    case TracePoint::kRouterLogits:
      return {num_tokens, config.num_experts};
    case TracePoint::kRouterIndex:
    case TracePoint::kRouterWeight:
      return {num_tokens, config.num_experts_per_tok};
    case TracePoint::kExpertGate:
    case TracePoint::kExpertUp:
    case TracePoint::kExpertSwiglu:
      return {slots, config.moe_intermediate_size};
    case TracePoint::kExpertOut:
      return {slots, config.hidden_size};
    case TracePoint::kLogits:
      return {num_tokens, config.vocab_size};
    case TracePoint::kEmbedding:
    case TracePoint::kAttnNorm:
    case TracePoint::kAttnOut:
    case TracePoint::kAttnResidual:
    case TracePoint::kFfnNorm:
    case TracePoint::kMoeOut:
    case TracePoint::kFfnResidual:
    case TracePoint::kOutputNorm:
      break;
  }
  return {num_tokens, config.hidden_size};
}

Result<TracedRun> run_traced(Session& session, std::span<const std::int32_t> tokens,
                             const TracedRunOptions& options) {
  CHECK(!tokens.empty());
  TraceRecorder recorder;
  const ForwardOptions forward{.logit_rows = LogitRows::kAll,
                               .trace = options.sink != nullptr ? options.sink : &recorder,
                               .forced_routes = options.forced_routes,
                               .executed = nullptr};
  const std::size_t chunk = options.chunk == 0 ? tokens.size() : options.chunk;
  TracedRun run;
  for (std::size_t begin = 0; begin < tokens.size(); begin += chunk) {
    const std::size_t count = std::min(chunk, tokens.size() - begin);
    auto logits = session.forward(tokens.subspan(begin, count), forward);
    if (!logits) {
      if (options.up_to_error != nullptr) *options.up_to_error = recorder.tensors();
      return logits.error();
    }
    if (options.sink == nullptr) run.logits = appended(std::move(run.logits), *logits);
  }
  run.trace = recorder.tensors();
  return run;
}

Result<TracedRun> run_traced(const Backend& backend, const Model& model,
                             std::span<const std::int32_t> tokens,
                             const TracedRunOptions& options) {
  auto session = backend.open_session(model, tokens.size());
  if (!session) return session.error();
  return run_traced(**session, tokens, options);
}

bool require_complete(const Config& config, const TracedRun& run, Judge* judge) {
  for (const TraceSite site : forward_order(config)) {
    const auto entry = run.trace.find(site);
    if (entry == run.trace.end()) {
      judge->refute("the trace point " + site.name() + " is missing");
      return false;
    }
    const Matrix<double>& values = entry->second.values;
    const TraceShape expected = trace_shape(config, site.point, run.logits.rows());
    if (TraceShape{values.rows(), values.columns()} != expected) {
      judge->refute("the trace point " + site.name() + " is [" + std::to_string(values.rows()) +
                    ", " + std::to_string(values.columns()) + "], not [" +
                    std::to_string(expected.rows) + ", " + std::to_string(expected.columns) + "]");
      return false;
    }
  }
  return true;
}

ForcedRoutes routes_of(const Config& config, const TraceTensors& trace) {
  ForcedRoutes routes;
  for (std::size_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    const auto entry = trace.find({TracePoint::kRouterIndex, layer});
    CHECK(entry != trace.end());
    const TraceTensor& index = entry->second;
    routes.first_position = index.first_position;
    Matrix<std::int32_t> ids(index.values.rows(), index.values.columns());
    std::ranges::transform(index.values.flat(), ids.data(),
                           [](double id) { return static_cast<std::int32_t>(id); });
    routes.ids.push_back(std::move(ids));
  }
  return routes;
}

std::vector<std::int32_t> random_tokens(const Config& config, std::uint64_t seed,
                                        std::size_t count) {
  SeededRandom random(seed);
  std::vector<std::int32_t> tokens(std::min(count, config.max_position_embeddings));
  for (std::int32_t& token : tokens) {
    token = static_cast<std::int32_t>(random.below(config.vocab_size));
  }
  return tokens;
}

std::vector<std::int32_t> probe_tokens(const Subject& subject, std::uint64_t seed,
                                       std::size_t count) {
  if (subject.pack != nullptr) return subject.pack->tokens();
  return random_tokens(subject.model->config(), seed, count);
}

bool measure_differing_elements(const Config& config, const TracedRun& reference,
                                const TracedRun& candidate, std::size_t num_tokens,
                                std::string_view metric, std::string_view where, Judge* judge) {
  const std::size_t reference_tokens = reference.logits.rows();
  const std::size_t candidate_tokens = candidate.logits.rows();
  CHECK(num_tokens <= reference_tokens && num_tokens <= candidate_tokens);
  bool held = true;
  const auto measure = [&](const Matrix<double>& a, const Matrix<double>& b, std::string site) {
    const std::string place = std::string(where) + ", " + std::move(site);
    const auto differing =
        count_differing_bits(first_rows(a, a.rows() / reference_tokens * num_tokens),
                             first_rows(b, b.rows() / candidate_tokens * num_tokens));
    if (!differing) {
      judge->refute(place + ": " + differing.error().message());
      held = false;
      return;
    }
    held = judge->measure(metric, static_cast<double>(*differing), place) && held;
  };
  if (!require_complete(config, reference, judge) || !require_complete(config, candidate, judge)) {
    judge->count_case(true);
    return false;
  }
  for (const TraceSite site : forward_order(config)) {
    measure(reference.trace.at(site).values, candidate.trace.at(site).values, site.name());
  }
  measure(reference.logits, candidate.logits, "returned logits");
  judge->count_case(!held);
  return held;
}

void judge_subject_error(const Error& error, std::string_view where, Judge* judge) {
  const std::string reason = std::string(where) + ": " + error.message();
  if (error.kind == ErrorKind::kOutOfMemory || error.kind == ErrorKind::kNoDevice) {
    judge->fail(reason);
  } else {
    judge->refute_by_trap("valid input gave an error: " + reason);
  }
}

void judge_reference_error(const Error& error, std::string_view where, Judge* judge) {
  judge->fail("the reference failed: " + std::string(where) + ": " + error.message());
}

}  // namespace refute
