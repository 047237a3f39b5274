// Claim: the mean negative log likelihood of the pack's windows is the pack's within 1e-6 nats a
//   token.
// Why it must hold: both are float64 over the same weights; the expectation is stored as a float32
//   (error below 1e-7 nats).
// Catches: wrong positions and mask past the length of the pack's other tokens, wrong weights that
//   only held-out text uses, a wrong scale of logits.
// Misses: errors that average out over the windows.
// Source: the definition of cross entropy.
#include "falsifiers/nll_oracle_matches_expectation.h"

#include <array>
#include <cmath>
#include <string>

#include "falsifiers/mean_nll.h"
#include "falsifiers/oracle_pack.h"
#include "falsifiers/traced_run.h"

namespace refute {
namespace {

constexpr std::array<MetricInfo, 1> kMetrics = {{
    {"nll_error", "|mean negative log likelihood - the pack's|, in nats a token", false, 1e-6},
}};
constexpr std::array kBackends = {BackendId::kOracle};

}  // namespace

Verdict falsify_nll_oracle_matches_expectation(const Subject& subject, const Criterion& criterion) {
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

const FalsifierInfo& nll_oracle_matches_expectation_info() {
  static constexpr FalsifierInfo kInfo = {
      .id = "nll.oracle_matches_expectation",
      .claim =
          "The oracle scores the pack's windows with its mean negative log likelihood within "
          "1e-6 nats a token.",
      .why = "Both are float64 computations over the same weights.",
      .catches = "Wrong positions past the other tokens of the pack, wrong scale of logits.",
      .misses = "Errors that average out over the windows.",
      .source = "The definition of cross entropy.",
      .metrics = kMetrics,
      .backends = kBackends,
      .needs_model = true,
      .needs_pack = true,
      .falsify = falsify_nll_oracle_matches_expectation,
      .lacking = [](const OraclePack& pack) -> std::string_view {
        return pack.nll() ? "" : "nll_window";
      },
  };
  return kInfo;
}

}  // namespace refute
