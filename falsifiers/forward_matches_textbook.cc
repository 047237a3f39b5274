// Claim: Every stage of the float64 oracle's forward pass, fed the recorded inputs of that stage,
//   equals the formula written a second time over bytes decoded a second time, within 1e-9 of its
//   row's root mean square, and the router chooses the experts of its logits; for synthetic models
//   of all weight types, and for the model under test in a sample of rows of each matrix.
// Why: Both are float64, so only rounding separates them (below 1e-12); nothing of the second
//   writing is code that the oracle runs.
// Catches: What every comparison with the oracle is blind to, because the oracle is the reference:
//   any stage left out, exchanged, or computed from another input, weight, constant or position;
//   weights read as another type, which leaves NaN.
// Misses: Rows of large matrices that the sample leaves out, positions past the prompt; and a
//   trace that records other numbers than those used, which shows in the stage after it.
// Source: Qwen3MoeForCausalLM; the formulas as in the papers that kernels/*.h name.
#include "falsifiers/forward_matches_textbook.h"

#include <array>
#include <cstddef>
#include <string_view>

#include "engine/backend.h"
#include "falsifiers/judge.h"
#include "falsifiers/property.h"
#include "falsifiers/synthetic_run.h"
#include "falsifiers/textbook_stages.h"

namespace refute {
namespace {

constexpr std::string_view kId = "forward.matches_textbook";

constexpr std::array<MetricInfo, 3> kMetrics = {{
    {"error", "|y - textbook| over the root mean square of the row, any stage.", false, 1e-9},
    {"wrong_ids", "Ranks that hold another expert than the logits say; fewer than one.", false,
     0.5},
    {"non_finite", "Elements of a trace point that are NaN or Inf; fewer than one.", false, 0.5},
}};
constexpr std::array kBackends = {BackendId::kOracle};

// Of the model under test: rows looked at in each matrix, and tokens.
constexpr std::size_t kSampledRows = 48;
constexpr std::size_t kSubjectTokens = 9;

void synthetic(const Backend& backend, PropertyCase& property_case) {
  const SyntheticShape shape = draw_shape(property_case);
  const SyntheticFile file = draw_file(property_case, shape);
  // Past the tiles of 8 and the positions of 16.
  const std::size_t num_tokens = property_case.integer("num_tokens", 1, 19);
  const auto observed = run_synthetic(backend, file, num_tokens, property_case.seed("tokens"),
                                      property_case, "non_finite");
  if (!observed) return;
  const std::size_t most_rows = shape == SyntheticShape::kNarrow ? 128 : kSampledRows;
  measure_stages(observed->model, observed->tokens, observed->run, most_rows,
                 property_case.seed("rows"), property_case);
  if (num_tokens > 8) property_case.mark_interesting();
}

void of_subject(const Subject& subject, PropertyCase& property_case) {
  const std::uint64_t seed = property_case.seed("tokens");
  const auto tokens = random_tokens(subject.model->config(), seed, kSubjectTokens);
  const auto run = run_traced(subject.backend, *subject.model, tokens);
  if (!property_case.require_ok(run, "forward")) return;
  if (!require_all_traced(subject.model->config(), *run, property_case)) return;
  measure_stages(*subject.model, tokens, *run, kSampledRows, seed, property_case);
}

}  // namespace

Verdict falsify_forward_matches_textbook(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  check_pinned(
      {kId, "subject"}, criterion, &judge, 1,
      [&](PropertyCase& property_case, std::size_t) { of_subject(subject, property_case); });
  check_property({kId, "synthetic", 0.2}, with_fewer_cases(criterion, 20), &judge,
                 [&](PropertyCase& property_case) { synthetic(subject.backend, property_case); });
  return judge.verdict();
}

const FalsifierInfo& forward_matches_textbook_info() {
  static const FalsifierInfo info = {
      .id = kId,
      .claim =
          "Every stage of the float64 oracle's forward pass equals the formula written a second "
          "time over bytes decoded a second time, within 1e-9 of its row's root mean square, and "
          "the router chooses the experts of its logits.",
      .why =
          "Both are float64, so only rounding separates them; nothing of the second writing is "
          "code that the oracle runs.",
      .catches =
          "What every comparison with the oracle is blind to: any stage left out, exchanged, or "
          "computed from another input, weight, constant or position.",
      .misses = "Rows that the sample leaves out, positions past the prompt.",
      .source = "Qwen3MoeForCausalLM; the formulas as in the papers that kernels/*.h name.",
      .metrics = kMetrics,
      .backends = kBackends,
      .needs_model = true,
      .needs_pack = false,
      .falsify = falsify_forward_matches_textbook,
  };
  return info;
}

}  // namespace refute
