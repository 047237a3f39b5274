// Claim: the chained forward pass over the pack's tokens gives every expectation of the
//   pack: within 4 units in the last place of float32 at every element, 1e-6 relative L2 per
//   tensor, and the same experts in the same order.
// Why it must hold: the expectations are an independent float64 computation over the same weights,
//   rounded once to float32, so a right float64 oracle is 0.5 units away from them (plus its own
//   rounding, below 1e-3 units). Everything else here is measured against the oracle.
// Catches: any wrong byte of any weight that a token uses (the smallest effect of 1900 single-bit
//   flips in used experts was 790 units), wrong constants down to eps outside the square root, any
//   wrong stage. The first trace point in forward order that diverges names the stage.
// Misses: what the pack's tokens do not use: other experts, other embeddings, later positions; and
//   an error that the pack's maker shares.
// Source: shared reference packs (numpy, cross-checked with transformers); float32 spacing as in
//   IEEE 754.
#include "falsifiers/oracle_pack_trace_points.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string>

#include "falsifiers/comparison_gates.h"
#include "falsifiers/oracle_pack.h"
#include "falsifiers/traced_run.h"

namespace refute {
namespace {

constexpr std::array<MetricInfo, 4> kMetrics = {{
    {"float32_ulps",
     "largest |y' - y| of a trace point in units of the float32 spacing at y, plus 1e-9 of its "
     "row's root mean square",
     false, 4.0},
    {"relative_l2", "|y' - y| / |y| of a trace point", false, 1e-6},
    {"worst_row_relative_l2", "the same of its worst token", false, 2e-6},
    {"wrong_experts", "places of router_index that differ; fewer than one", false, 0.5},
}};
constexpr ComparisonGates kGates = {.relative_l2 = "relative_l2",
                                    .worst_row_relative_l2 = "worst_row_relative_l2",
                                    .linf_over_rms = "",
                                    .scale_error = "",
                                    .worst_row_cosine = "",
                                    .mean_offset_over_rms = ""};
constexpr std::array kBackends = {BackendId::kOracle};

struct WorstElement {
  double ulps = 0.0;
  std::size_t row = 0;
  std::size_t column = 0;
};

WorstElement worst_element(const Matrix<double>& expected, const Matrix<double>& found) {
  WorstElement worst;
  for (std::size_t r = 0; r < expected.rows(); ++r) {
    double sum = 0.0;
    for (const double value : expected.row(r)) sum += value * value;
    const double floor = 1e-9 * std::sqrt(sum / static_cast<double>(expected.columns()));
    for (std::size_t c = 0; c < expected.columns(); ++c) {
      const auto magnitude = static_cast<float>(std::abs(expected(r, c)));
      const float spacing =
          std::nextafter(magnitude, std::numeric_limits<float>::infinity()) - magnitude;
      const double ulps =
          std::abs(found(r, c) - expected(r, c)) / (static_cast<double>(spacing) + floor);
      if (!(ulps <= worst.ulps)) worst = {ulps, r, c};
    }
  }
  return worst;
}

void judge_site(TraceSite site, const Matrix<double>& expected, const Matrix<double>& found,
                Judge* judge) {
  if (site.point == TracePoint::kRouterIndex) {
    measure_differing("wrong_experts", expected.view(), found.view(), site.name(), judge);
    return;
  }
  const WorstElement worst = worst_element(expected, found);
  judge->measure("float32_ulps", worst.ulps,
                 site.name() + " row " + std::to_string(worst.row) + " column " +
                     std::to_string(worst.column));
  measure_comparison(expected.view(), found.view(), kGates, site.name(), judge);
}

}  // namespace

Verdict falsify_oracle_pack_trace_points(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  const OraclePack& pack = *subject.pack;
  const auto run = run_traced(subject.backend, *subject.model, pack.tokens());
  if (!run) {
    judge_subject_error(run.error(), "the pack's tokens", &judge);
    return judge.verdict();
  }
  if (!require_complete(subject.model->config(), *run, &judge)) return judge.verdict();
  for (const TraceSite site : forward_order(subject.model->config())) {
    const TraceTensor* expected = pack.find(site);
    if (expected == nullptr) continue;
    judge_site(site, expected->values, run->trace.at(site).values, &judge);
  }
  return judge.verdict();
}

const FalsifierInfo& oracle_pack_trace_points_info() {
  static constexpr FalsifierInfo kInfo = {
      .id = "oracle_pack.trace_points",
      .claim =
          "The oracle gives every expectation of the pack, element by element, within 4 units "
          "in the last place of float32, and the same experts.",
      .why =
          "The expectations are an independent float64 computation over the same weights, "
          "rounded once to float32.",
      .catches =
          "A single flipped bit in any block that a token uses; any wrong stage or constant.",
      .misses = "What the pack's tokens do not use, and an error that the pack's maker shares.",
      .source = "Reference packs computed with numpy and cross-checked with transformers.",
      .metrics = kMetrics,
      .backends = kBackends,
      .needs_model = true,
      .needs_pack = true,
      .falsify = falsify_oracle_pack_trace_points,
  };
  return kInfo;
}

}  // namespace refute
