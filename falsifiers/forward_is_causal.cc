// Claim: changing the token at one position changes no bit of any trace point before it; and, as a
//   control, it does change the logits at that position and of at least one token after it.
// Why it must hold: attention is causal, and nothing else connects tokens. A later token sees the
//   changed one through its keys and values.
// Catches: a mask that sees the next token, attention over uninitialised or later cache rows,
//   statistics over the batch, a mask that excludes the past (the control).
// Misses: a mask that excludes a token from itself, which parity sees.
// Source: the definition of causal attention.
#include "falsifiers/forward_is_causal.h"

#include <algorithm>
#include <array>
#include <string>

#include "falsifiers/parity.h"
#include "falsifiers/traced_run.h"

namespace refute {
namespace {

constexpr std::size_t kNumTokens = 17;
constexpr std::array<std::size_t, 4> kPositions = {1, 7, 8, 16};

constexpr std::array<MetricInfo, 2> kMetrics = {{
    {"differing_before", "elements before the changed token whose bits differ; fewer than one",
     false, 0.5},
    {"unchanged_after",
     "controls that saw no change: the token itself, those after it; fewer than "
     "one",
     false, 0.5},
}};

bool same_logits(const TracedRun& a, const TracedRun& b, std::size_t row) {
  return std::ranges::equal(a.logits.row(row), b.logits.row(row));
}

void judge_position(const Subject& subject, const std::vector<std::int32_t>& tokens,
                    const TracedRun& original, std::size_t position, Judge* judge) {
  const Config& config = subject.model->config();
  const std::string where = "token " + std::to_string(position) + " changed";
  std::vector<std::int32_t> changed = tokens;
  changed[position] = (changed[position] + 1) % static_cast<std::int32_t>(config.vocab_size);
  const auto run = run_traced(subject.backend, *subject.model, changed);
  if (!run) return judge_subject_error(run.error(), where, judge);
  measure_differing_elements(config, original, *run, position, "differing_before", where, judge);

  const bool itself = !same_logits(original, *run, position);
  bool later = position + 1 == tokens.size();
  for (std::size_t row = position + 1; row < tokens.size(); ++row) {
    later = later || !same_logits(original, *run, row);
  }
  judge->measure("unchanged_after", (itself ? 0.0 : 1.0) + (later ? 0.0 : 1.0), where);
}

}  // namespace

Verdict falsify_forward_is_causal(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  const auto tokens = random_tokens(subject.model->config(), criterion.seed, kNumTokens);
  const auto original = run_traced(subject.backend, *subject.model, tokens);
  if (!original) {
    judge_subject_error(original.error(), "forward", &judge);
    return judge.verdict();
  }
  for (const std::size_t position : kPositions) {
    if (judge.is_settled()) break;
    if (position < tokens.size()) judge_position(subject, tokens, *original, position, &judge);
  }
  return judge.verdict();
}

const FalsifierInfo& forward_is_causal_info() {
  static constexpr FalsifierInfo kInfo = {
      .id = "forward.is_causal",
      .claim =
          "Changing a token changes no bit of any trace point before it, and does change the "
          "logits at it and after it.",
      .why = "Attention is causal, and nothing else connects tokens.",
      .catches =
          "A mask that sees the next token, attention over later cache rows, a mask that excludes "
          "the past.",
      .misses = "A mask that excludes a token from itself.",
      .source = "The definition of causal attention.",
      .metrics = kMetrics,
      .backends = kAllBackends,
      .needs_model = true,
      .needs_pack = false,
      .falsify = falsify_forward_is_causal,
  };
  return kInfo;
}

}  // namespace refute
