// Claim: int8 activations and a float16 cache cost at most 2e-2 nats a token on the pack's windows,
//   in either direction.
// Why it must hold: it is the budget of comparison class C for what a reader of the text sees.
//   Measured on the trained pack: 1e-3 nats or less.
// Catches: faults that spoil text: wrong experts, wrong positions, a wrong scale of logits.
// Misses: small faults of single elements or rare experts, which stage parity sees.
// Source: the definition of cross entropy; budget of the comparison classes.
#include "falsifiers/nll_fast_within_budget.h"

#include <array>
#include <cmath>
#include <string>

#include "falsifiers/mean_nll.h"
#include "falsifiers/oracle_pack.h"
#include "falsifiers/parity.h"
#include "falsifiers/traced_run.h"

namespace refute {
namespace {

constexpr std::array<MetricInfo, 1> kMetrics = {{
    {"nll_error", "|mean negative log likelihood - the pack's|, in nats a token", false, 2e-2},
}};

}  // namespace

Verdict falsify_nll_fast_within_budget(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  if (!subject.pack->nll()) return Verdict::not_run("the pack holds no windows to score");
  const NllExpectation& expectation = *subject.pack->nll();
  const auto found = mean_nll(subject.backend, *subject.model, expectation);
  if (!found) {
    judge_subject_error(found.error(), "nll windows", &judge);
    return judge.verdict();
  }
  const bool held =
      judge.measure("nll_error", std::abs(*found - expectation.mean_nll),
                    std::to_string(expectation.windows.size()) + " windows, mean " +
                        std::to_string(*found) + " for " + std::to_string(expectation.mean_nll));
  judge.count_case(!held);
  return judge.verdict();
}

const FalsifierInfo& nll_fast_within_budget_info() {
  static constexpr FalsifierInfo kInfo = {
      .id = "nll.fast_within_budget",
      .claim =
          "A fast backend scores the pack's windows within 2e-2 nats a token of the float64 "
          "mean negative log likelihood.",
      .why = "It is the budget of what quantized activations may cost a reader.",
      .catches = "Faults that spoil text: wrong experts, wrong positions, wrong scale of logits.",
      .misses = "Small faults of single elements or rare experts.",
      .source = "The definition of cross entropy.",
      .metrics = kMetrics,
      .backends = kFastBackends,
      .needs_model = true,
      .needs_pack = true,
      .falsify = falsify_nll_fast_within_budget,
      .lacking = [](const OraclePack& pack) -> std::string_view {
        return pack.nll() ? "" : "nll_window";
      },
  };
  return kInfo;
}

}  // namespace refute
