// Claim: every element of every trace point is finite, there is at least one element at each, and
//   no layer makes the residual stream's root mean square grow more than a hundredfold.
// Why it must hold: a forward pass on finite weights has no NaN or Inf; residual streams of models
//   that work grow, but not without bounds in one layer (measured on five models: at most 1.9 in a
//   layer).
// Catches: overflow of a narrow accumulator, slabs of weights read as another type, uninitialised
//   rows, a missing QK-norm that makes activations explode. Names the first site in forward order.
// Misses: finite wrong values.
// Source: acceptance AC_GPU_MOE_004; a public engine's NaN at layer 6 and its residual growing 40x.
#include "falsifiers/forward_finite.h"

#include <array>
#include <cmath>
#include <string>

#include "falsifiers/metrics.h"
#include "falsifiers/oracle_pack.h"
#include "falsifiers/parity.h"
#include "falsifiers/traced_run.h"

namespace refute {
namespace {

constexpr std::size_t kNumTokens = 24;

constexpr std::array<MetricInfo, 2> kMetrics = {{
    {"non_finite", "elements of a trace point that are NaN or Inf; fewer than one", false, 0.5},
    {"residual_growth", "root mean square leaving a layer over that entering it", false, 100.0},
}};

double root_mean_square(const Matrix<double>& matrix) {
  double sum = 0.0;
  for (const double value : matrix.flat()) sum += value * value;
  return std::sqrt(sum / static_cast<double>(matrix.size()));
}

void judge_growth(const Config& config, const TraceTensors& trace, Judge* judge) {
  double entering = root_mean_square(trace.at({TracePoint::kEmbedding, 0}).values);
  for (std::size_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    const TraceSite site{TracePoint::kFfnResidual, layer};
    const double leaving = root_mean_square(trace.at(site).values);
    judge->measure("residual_growth", leaving / entering, site.name());
    entering = leaving;
  }
}

}  // namespace

Verdict falsify_forward_finite(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  const Config& config = subject.model->config();
  const auto tokens = probe_tokens(subject, criterion.seed, kNumTokens);
  const auto run = run_traced(subject.backend, *subject.model, tokens);
  if (!run) {
    judge_subject_error(run.error(), "forward", &judge);
    return judge.verdict();
  }
  if (!require_complete(config, *run, &judge)) return judge.verdict();
  for (const TraceSite site : forward_order(config)) {
    const std::size_t count = count_non_finite(run->trace.at(site).values.view());
    const bool held = judge.measure("non_finite", static_cast<double>(count), site.name());
    judge.count_case(!held);
  }
  judge_growth(config, run->trace, &judge);
  return judge.verdict();
}

const FalsifierInfo& forward_finite_info() {
  static constexpr FalsifierInfo kInfo = {
      .id = "forward.finite",
      .claim =
          "Every element of every trace point is finite, and no layer makes the residual stream "
          "grow a hundredfold.",
      .why = "A forward pass on finite weights has no NaN or Inf.",
      .catches =
          "Overflow, weights read as another type, uninitialised rows, exploding activations.",
      .misses = "Finite wrong values.",
      .source = "Acceptance AC_GPU_MOE_004.",
      .metrics = kMetrics,
      .backends = kAllBackends,
      .needs_model = true,
      .needs_pack = false,
      .falsify = falsify_forward_finite,
  };
  return kInfo;
}

}  // namespace refute
