// Claim: every stage of the subject's own forward pass, computed again from bit-identical inputs by
//   the float64 oracle that emulates int8 activations and the float16 cache, agrees with what the
//   subject recorded within the gates of one op (5e-6 relative L2, 2e-5 in the worst row, ...), and
//   the router takes the same experts in the same order.
// Why it must hold: from identical inputs both round activations to the same integers, so nothing
//   is left but the order of float32 additions. Errors of earlier stages cannot hide or excuse
//   anything, because every stage is fed with what the subject itself computed.
// Catches: a wrong stage anywhere in the real forward pass, in any layer, down to single elements;
//   a second body (traced or per layer type) that lacks a step; weights of a wrong layer or expert.
// Misses: what the trace points do not carry: a stage that records one value and passes on another
//   (the next stage sees it), and the cache's rows of earlier calls (session.*, decode = prefill).
// Source: comparison class B (and A for float32 stages).
#include "falsifiers/forward_local_parity.h"

#include <array>
#include <map>
#include <string>

#include "engine/backend.h"
#include "falsifiers/comparison_gates.h"
#include "falsifiers/oracle_pack.h"
#include "falsifiers/parity.h"
#include "falsifiers/stage_replay.h"
#include "falsifiers/traced_run.h"

namespace refute {
namespace {

constexpr std::size_t kNumTokens = 24;

constexpr auto kMetrics = parity_and<1>(
    {{{"wrong_experts", "places of router_index that differ; fewer than one", false, 0.5}}});

// The largest relative L2 of every trace point over the layers, for people.
void note_worst(const std::map<TracePoint, double>& worst, Judge* judge) {
  std::string text = "largest relative L2 by stage:";
  for (const auto& [point, error] : worst) {
    text += " " + std::string(trace_point_name(point)) + " " + short_number(error);
  }
  judge->note(text);
}

}  // namespace

Verdict falsify_forward_local_parity(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  const Model& model = *subject.model;
  const auto tokens = probe_tokens(subject, criterion.seed, kNumTokens);
  const auto run = run_traced(subject.backend, model, tokens);
  if (!run) {
    judge_subject_error(run.error(), "forward", &judge);
    return judge.verdict();
  }
  if (!require_complete(model.config(), *run, &judge)) return judge.verdict();
  const auto oracle = make_oracle_backend(ActivationScheme::kEmulatedInt8);
  const StageInputs inputs{tokens, run->trace};
  std::map<TracePoint, double> worst;
  for (const TraceSite site : forward_order(model.config())) {
    const Matrix<double>& candidate = run->trace.at(site).values;
    const auto reference = replay_stage(*oracle, model, site, inputs);
    if (!reference) {
      // The inputs are the subject's own values: an op that rejects them rejects the subject.
      judge_subject_error(reference.error(), site.name(), &judge);
      continue;
    }
    if (site.point == TracePoint::kRouterIndex) {
      measure_differing("wrong_experts", reference->view(), candidate.view(), site.name(), &judge);
      continue;
    }
    measure_comparison(reference->view(), candidate.view(), kParityGates, site.name(), &judge);
    if (const auto comparison = compare(reference->view(), candidate.view()); comparison) {
      worst[site.point] = std::max(worst[site.point], comparison->relative_l2);
    }
  }
  note_worst(worst, &judge);
  return judge.verdict();
}

const FalsifierInfo& forward_local_parity_info() {
  static constexpr FalsifierInfo kInfo = {
      .id = "forward.local_parity",
      .claim =
          "Every stage of the forward pass agrees with the emulating float64 oracle on "
          "bit-identical inputs within 5e-6 relative L2, and takes the same experts.",
      .why =
          "From identical inputs both round activations to the same integers; what is left is "
          "the order of float32 additions.",
      .catches = "A wrong stage anywhere in the real forward pass, in any layer.",
      .misses = "A cache that keeps wrong rows between calls.",
      .source = "Comparison class B, class A for float32 stages.",
      .metrics = kMetrics,
      .backends = kFastBackends,
      .needs_model = true,
      .needs_pack = false,
      .falsify = falsify_forward_local_parity,
  };
  return kInfo;
}

}  // namespace refute
