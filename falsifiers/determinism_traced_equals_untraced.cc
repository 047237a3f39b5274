// Claim: a traced forward pass and an untraced one give bitwise the same logits, in prefill and in
//   decode.
// Why it must hold: there is one forward body; tracing is a sink that may be absent. Whoever reads
//   a trace must be reading what runs when nobody looks.
// Catches: a second body for tracing that drifts, fusions that are off under tracing, a trace that
//   synchronises what otherwise races.
// Misses: errors that both share.
// Source: a public engine whose traced forward lacked a fix that the plain one had.
#include "falsifiers/determinism_traced_equals_untraced.h"

#include <algorithm>
#include <array>
#include <string>

#include "falsifiers/comparison_gates.h"
#include "falsifiers/parity.h"
#include "falsifiers/traced_run.h"

namespace refute {
namespace {

constexpr std::size_t kNumTokens = 17;

constexpr std::array<MetricInfo, 1> kMetrics = {{kDifferingElements}};

Result<Matrix<double>> run_untraced(const Subject& subject, std::span<const std::int32_t> tokens,
                                    std::size_t chunk) {
  auto session = subject.backend.open_session(*subject.model, tokens.size());
  if (!session) return session.error();
  ForwardOptions options;
  options.logit_rows = LogitRows::kAll;
  Matrix<double> all(tokens.size(), subject.model->config().vocab_size);
  for (std::size_t begin = 0; begin < tokens.size(); begin += chunk) {
    const auto logits =
        (*session)->forward(tokens.subspan(begin, std::min(chunk, tokens.size() - begin)), options);
    if (!logits) return logits.error();
    if (logits->columns() != all.columns() || begin + logits->rows() > all.rows()) {
      return Error{ErrorKind::kInvalidShape, "logits", "[num_tokens, vocab_size]",
                   std::to_string(logits->rows()) + " rows"};
    }
    std::ranges::copy(logits->flat(), all.row(begin).begin());
  }
  return all;
}

}  // namespace

Verdict falsify_determinism_traced_equals_untraced(const Subject& subject,
                                                   const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  const auto tokens = random_tokens(subject.model->config(), criterion.seed, kNumTokens);
  for (const std::size_t chunk : {tokens.size(), std::size_t{1}}) {
    if (judge.is_settled()) break;
    const std::string where = chunk == 1 ? "decode" : "prefill";
    const auto traced = run_traced(subject.backend, *subject.model, tokens,
                                   {.chunk = chunk, .forced_routes = nullptr});
    const auto untraced = run_untraced(subject, tokens, chunk);
    if (!traced || !untraced) {
      judge_subject_error(traced ? untraced.error() : traced.error(), where, &judge);
      continue;
    }
    measure_differing("differing_elements", traced->logits.view(), untraced->view(),
                      where + " logits", &judge);
    if (!require_complete(subject.model->config(), *traced, &judge)) continue;
    const TraceTensor& recorded = traced->trace.at({TracePoint::kLogits, 0});
    measure_differing("differing_elements", recorded.values.view(), untraced->view(),
                      where + " logits as recorded", &judge);
  }
  return judge.verdict();
}

const FalsifierInfo& determinism_traced_equals_untraced_info() {
  static constexpr FalsifierInfo kInfo = {
      .id = "determinism.traced_equals_untraced",
      .claim =
          "A traced forward pass and an untraced one give bitwise the same logits, in prefill and "
          "decode.",
      .why = "There is one forward body; tracing is a sink that may be absent.",
      .catches = "A second body for tracing, fusions that are off under tracing.",
      .misses = "Errors that both share.",
      .source = "A public engine whose traced forward lacked a fix.",
      .metrics = kMetrics,
      .backends = kAllBackends,
      .needs_model = true,
      .needs_pack = false,
      .falsify = falsify_determinism_traced_equals_untraced,
  };
  return kInfo;
}

}  // namespace refute
