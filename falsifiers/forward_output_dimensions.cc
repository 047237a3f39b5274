// Claim: for prompts of 1, 2, 7 and 33 tokens, the logits are [1, vocab_size] when the last row is
//   asked for and [num_tokens, vocab_size] when all are, and every trace point has its documented
//   shape; and the last row is bitwise the same either way.
// Why it must hold: shapes follow from the configuration alone.
// Catches: rows computed for padded tiles, a vocabulary padded to a multiple, head_dim taken as
//   hidden_size / num_attention_heads, the last row taken from another token.
// Misses: right shapes with wrong contents.
// Source: acceptance AC_GPU_MOE_003; engine/trace.h.
#include "falsifiers/forward_output_dimensions.h"

#include <algorithm>
#include <array>
#include <string>

#include "falsifiers/comparison_gates.h"
#include "falsifiers/parity.h"
#include "falsifiers/seeded_random.h"
#include "falsifiers/traced_run.h"

namespace refute {
namespace {

constexpr std::array<std::size_t, 4> kPromptLengths = {1, 2, 7, 33};

constexpr std::array<MetricInfo, 2> kMetrics = {{
    {"wrong_dimensions", "dimensions of logits that differ from those asked for; fewer than one",
     false, 0.5},
    kDifferingElements,
}};

double count_wrong(const Matrix<double>& logits, std::size_t rows, std::size_t columns) {
  return (logits.rows() == rows ? 0.0 : 1.0) + (logits.columns() == columns ? 0.0 : 1.0);
}

void judge_prompt(const Subject& subject, std::span<const std::int32_t> tokens, Judge* judge) {
  const Config& config = subject.model->config();
  const std::string where = "prompt of " + std::to_string(tokens.size());
  const auto all = run_traced(subject.backend, *subject.model, tokens);
  if (!all) return judge_subject_error(all.error(), where, judge);
  auto session = subject.backend.open_session(*subject.model, tokens.size());
  if (!session) return judge_subject_error(session.error(), where, judge);
  const auto last = (*session)->forward(tokens, {});
  if (!last) return judge_subject_error(last.error(), where, judge);

  const double wrong = count_wrong(all->logits, tokens.size(), config.vocab_size) +
                       count_wrong(*last, 1, config.vocab_size);
  const bool held = judge->measure("wrong_dimensions", wrong, where);
  judge->count_case(!held);
  if (!held || !require_complete(config, *all, judge)) return;
  measure_differing("differing_elements", last_row(all->logits).view(), last->view(),
                    where + ", last row", judge);
}

}  // namespace

Verdict falsify_forward_output_dimensions(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  const Config& config = subject.model->config();
  for (std::size_t i = 0; i < kPromptLengths.size(); ++i) {
    const auto tokens = random_tokens(config, mix_seed(criterion.seed, i), kPromptLengths[i]);
    judge_prompt(subject, tokens, &judge);
  }
  return judge.verdict();
}

const FalsifierInfo& forward_output_dimensions_info() {
  static constexpr FalsifierInfo kInfo = {
      .id = "forward.output_dimensions",
      .claim =
          "Logits are [1 or num_tokens, vocab_size] as asked for, every trace point has its "
          "documented shape, and the last row is the same either way.",
      .why = "Shapes follow from the configuration alone.",
      .catches = "Padded tiles or vocabulary, head_dim taken as hidden_size / num_attention_heads.",
      .misses = "Right shapes with wrong contents.",
      .source = "Acceptance AC_GPU_MOE_003.",
      .metrics = kMetrics,
      .backends = kAllBackends,
      .needs_model = true,
      .needs_pack = false,
      .falsify = falsify_forward_output_dimensions,
  };
  return kInfo;
}

}  // namespace refute
