// Claim: the cosine of every token's logits, and of every token's hidden state after every layer,
//   with the emulating oracle's on the same experts is at least 0.99.
// Why it must hold: the contracts of GPU parity ask for it, per layer. It is a headline, not a
//   proof: no contract should rest on it alone.
// Catches: a token or a layer that is plainly wrong, where a cosine over the whole tensor would
//   average it away.
// Misses: scale entirely, and everything that turns a row by less than 8 degrees: a missing
//   renormalisation, an expert dropped, wrong rope theta behind massive channels, and 37 of 73
//   seeded faults in all. forward.local_parity sees those.
// Source: acceptance AC_GPU_MOE_001 of qwen3-moe-forward-gpu-v1.
#include "falsifiers/forward_cosine_per_row.h"

#include <array>
#include <string>

#include "engine/backend.h"
#include "falsifiers/comparison_gates.h"
#include "falsifiers/parity.h"
#include "falsifiers/traced_run.h"

namespace refute {
namespace {

constexpr std::size_t kNumTokens = 24;

constexpr std::array<MetricInfo, 2> kMetrics = {{
    {"logits_cosine", "cosine of a token's logits with the oracle's, the worst", true, 0.99},
    {"layer_cosine", "cosine of a token's hidden state after a layer, the worst", true, 0.99},
}};

constexpr ComparisonGates gate(std::string_view metric) {
  return {.relative_l2 = "",
          .worst_row_relative_l2 = "",
          .linf_over_rms = "",
          .scale_error = "",
          .worst_row_cosine = metric,
          .mean_offset_over_rms = ""};
}

}  // namespace

Verdict falsify_forward_cosine_per_row(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  const Config& config = subject.model->config();
  const auto tokens = probe_tokens(subject, criterion.seed, kNumTokens);
  const auto oracle =
      run_traced(*make_oracle_backend(ActivationScheme::kEmulatedInt8), *subject.model, tokens);
  if (!oracle) {
    judge_reference_error(oracle.error(), "forward", &judge);
    return judge.verdict();
  }
  const ForcedRoutes routes = routes_of(config, oracle->trace);
  const auto run =
      run_traced(subject.backend, *subject.model, tokens, {.chunk = 0, .forced_routes = &routes});
  if (!run) {
    judge_subject_error(run.error(), "forward", &judge);
    return judge.verdict();
  }
  if (!require_complete(config, *run, &judge)) return judge.verdict();
  std::string lowest = "1 - lowest cosine by layer:";
  for (std::size_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    const TraceSite site{TracePoint::kFfnResidual, layer};
    const auto reference = oracle->trace.at(site).values.view();
    const auto candidate = run->trace.at(site).values.view();
    measure_comparison(reference, candidate, gate("layer_cosine"), site.name(), &judge);
    if (const auto comparison = compare(reference, candidate); comparison) {
      lowest += " " + short_number(1.0 - comparison->worst_row_cosine);
    }
  }
  measure_comparison(oracle->logits.view(), run->logits.view(), gate("logits_cosine"), "logits",
                     &judge);
  judge.note(lowest);
  return judge.verdict();
}

const FalsifierInfo& forward_cosine_per_row_info() {
  static constexpr FalsifierInfo kInfo = {
      .id = "forward.cosine_per_row",
      .claim =
          "The cosine of every token's logits, and of its hidden state after every layer, with "
          "the emulating oracle's is at least 0.99.",
      .why = "The contracts of GPU parity ask for it, per layer; it is a headline, not a proof.",
      .catches = "A token or a layer that is plainly wrong.",
      .misses = "Scale, and everything that turns a row by less than 8 degrees.",
      .source = "Acceptance AC_GPU_MOE_001.",
      .metrics = kMetrics,
      .backends = kFastBackends,
      .needs_model = true,
      .needs_pack = false,
      .falsify = falsify_forward_cosine_per_row,
  };
  return kInfo;
}

}  // namespace refute
