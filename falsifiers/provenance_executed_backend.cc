// Claim: every layer of every call is executed by the subject's backend, by its own account, traced
//   or not; and what a fast backend computes are float32 values.
// Why it must hold: a result of another backend verifies that other backend. A silent fallback
//   passes every parity gate with a perfect score.
// Catches: layers handed to the CPU or to the oracle, a call that reports nothing.
// Misses: a backend that misreports itself with float32 values of another one. Counting kernel
//   launches belongs to the device tests.
// Source: a public engine whose --gpu silently ran on the CPU.
#include "falsifiers/provenance_executed_backend.h"

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "engine/backend.h"
#include "falsifiers/parity.h"
#include "falsifiers/traced_run.h"

namespace refute {
namespace {

constexpr std::size_t kNumTokens = 6;

constexpr std::array<MetricInfo, 1> kMetrics = {{
    {"foreign_results",
     "layers of a call that another backend, or none, says it executed, or values of a fast "
     "backend that float32 cannot hold; fewer than one",
     false, 0.5},
}};

// Missing and superfluous entries count like foreign ones.
double foreign_layers(const std::vector<BackendId>& executed, const Subject& subject) {
  const std::size_t layers = subject.model->config().num_hidden_layers;
  const auto own = static_cast<std::size_t>(std::ranges::count(executed, subject.backend.id()));
  return static_cast<double>(std::max(executed.size(), layers) - std::min(own, layers));
}

double count_not_float32(std::span<const double> values) {
  return static_cast<double>(std::ranges::count_if(values, [](double value) {
    return static_cast<double>(static_cast<float>(value)) != value;
  }));
}

void judge_call(const Subject& subject, Session& session, std::span<const std::int32_t> tokens,
                TraceSink* trace, const std::string& where, Judge* judge) {
  // What was in it before must not count.
  std::vector<BackendId> executed(1, subject.backend.id());
  ForwardOptions options;
  options.trace = trace;
  options.executed = &executed;
  const auto logits = session.forward(tokens, options);
  if (!logits) return judge_subject_error(logits.error(), where, judge);
  const bool held = judge->measure("foreign_results", foreign_layers(executed, subject), where);
  judge->count_case(!held);
}

// The oracle's values are wider by design.
void judge_values(const Subject& subject, const TraceRecorder& recorder, Judge* judge) {
  if (subject.backend.id() == BackendId::kOracle) return;
  for (const auto& [site, tensor] : recorder.tensors()) {
    judge->measure("foreign_results", count_not_float32(tensor.values.flat()),
                   site.name() + ", values that float32 cannot hold");
  }
}

}  // namespace

Verdict falsify_provenance_executed_backend(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  const auto tokens = random_tokens(subject.model->config(), criterion.seed, kNumTokens);
  auto session = subject.backend.open_session(*subject.model, tokens.size());
  if (!session) {
    judge_subject_error(session.error(), "open_session", &judge);
    return judge.verdict();
  }
  TraceRecorder recorder;
  const std::span<const std::int32_t> all = tokens;
  const std::size_t prompt = tokens.size() - tokens.size() / 2;
  judge_call(subject, **session, all.first(prompt), &recorder, "prefill, traced", &judge);
  for (std::size_t t = prompt; t < tokens.size(); ++t) {
    judge_call(subject, **session, all.subspan(t, 1), nullptr,
               "decode at position " + std::to_string(t), &judge);
  }
  judge_values(subject, recorder, &judge);
  judge.note("executed by " + subject.backend.description());
  return judge.verdict();
}

const FalsifierInfo& provenance_executed_backend_info() {
  static constexpr FalsifierInfo kInfo = {
      .id = "provenance.executed_backend",
      .claim =
          "Every layer of every call is executed by the subject's backend, and a fast backend's "
          "values are float32.",
      .why = "A result of another backend verifies that other backend.",
      .catches = "Layers handed to the CPU or the oracle; a call that reports nothing.",
      .misses = "A backend that misreports itself with float32 values of another one.",
      .source = "A public engine whose --gpu silently ran on the CPU.",
      .metrics = kMetrics,
      .backends = kAllBackends,
      .needs_model = true,
      .needs_pack = false,
      .falsify = falsify_provenance_executed_backend,
  };
  return kInfo;
}

}  // namespace refute
