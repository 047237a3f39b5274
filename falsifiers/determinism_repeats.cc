// Claim: the same prompt run 16 times, in new sessions and in one that is reset and poisoned with
//   0xFF bytes between the runs, gives the same bits every time, at every trace point.
// Why it must hold: every output element is computed in one fixed order, whoever computes it.
// Catches: atomics in a combine, races, missing barriers, reads before writes.
// Misses: races that 16 runs do not show; a wrong result that is always the same.
// Source: comparison class E.
#include "falsifiers/determinism_repeats.h"

#include <array>
#include <string>

#include "falsifiers/parity.h"
#include "falsifiers/traced_run.h"

namespace refute {
namespace {

constexpr std::size_t kRepeats = 16;
// The oracle runs on one thread, and is slow.
constexpr std::size_t kNumTokens = 9;
constexpr std::size_t kNumTokensOracle = 3;

constexpr std::array<MetricInfo, 1> kMetrics = {{kDifferingElements}};

}  // namespace

Verdict falsify_determinism_repeats(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  const Config& config = subject.model->config();
  const bool is_oracle = subject.backend.id() == BackendId::kOracle;
  const auto tokens =
      random_tokens(config, criterion.seed, is_oracle ? kNumTokensOracle : kNumTokens);
  const auto first = run_traced(subject.backend, *subject.model, tokens);
  auto session = subject.backend.open_session(*subject.model, tokens.size());
  if (!first || !session) {
    judge_subject_error(first ? session.error() : first.error(), "the first run", &judge);
    return judge.verdict();
  }
  for (std::size_t repeat = 1; repeat < kRepeats; ++repeat) {
    if (judge.is_settled()) break;
    const std::string where = "repeat " + std::to_string(repeat);
    const bool reuse = repeat % 2 == 0;
    if (reuse) {
      if (const auto ok = (*session)->rollback(0); !ok) {
        judge_subject_error(ok.error(), where, &judge);
        break;
      }
      (*session)->poison_unused();
    }
    const auto run =
        reuse ? run_traced(**session, tokens) : run_traced(subject.backend, *subject.model, tokens);
    if (!run) {
      judge_subject_error(run.error(), where, &judge);
      break;
    }
    measure_differing_elements(config, *first, *run, tokens.size(), "differing_elements", where,
                               &judge);
  }
  return judge.verdict();
}

const FalsifierInfo& determinism_repeats_info() {
  static constexpr FalsifierInfo kInfo = {
      .id = "determinism.repeats",
      .claim =
          "The same prompt run 16 times, with unused memory poisoned in between, gives the same "
          "bits at every trace point.",
      .why = "Every output element is computed in one fixed order.",
      .catches = "Atomics, races, missing barriers, reads before writes.",
      .misses = "Races that 16 runs do not show; wrong results that are always the same.",
      .source = "Comparison class E.",
      .metrics = kMetrics,
      .backends = kAllBackends,
      .needs_model = true,
      .needs_pack = false,
      .falsify = falsify_determinism_repeats,
  };
  return kInfo;
}

}  // namespace refute
