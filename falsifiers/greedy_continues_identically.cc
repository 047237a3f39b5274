// Claim: decoding greedily from the pack's prompt gives the pack's continuation, token by token; on
//   the fast backends, wherever the exact oracle's margin between its two largest logits exceeds
//   twice the noise that int8 activations may cost.
// Why it must hold: where the margin exceeds twice the largest error of a logit, the argmax is the
//   same. The noise is measured without the subject: the largest difference of a logit, over all
//   steps, between the exact and the emulated oracle.
// Catches: what a user sees: wrong tokens; faults that only many decode steps with a growing cache
//   show. Every step is fed the expected token, so that one mismatch does not become all.
// Misses: errors below the margin; and steps inside the noise, whose number is noted.
// Source: greedy decoding; the pack's continuation was computed in float64.
#include "falsifiers/greedy_continues_identically.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/backend.h"
#include "falsifiers/oracle_pack.h"
#include "falsifiers/traced_run.h"

namespace refute {
namespace {

constexpr std::array<MetricInfo, 1> kMetrics = {{
    {"wrong_tokens",
     "tokens that differ from the continuation, outside of the noise; fewer than one", false, 0.5},
}};

// Which steps of the continuation the claim is about.
struct Band {
  double noise = 0.0;
  std::vector<bool> is_outside;
};

// Logits [tokens.size(), vocab_size].
Result<Matrix<double>> all_logits(ActivationScheme scheme, const Model& model,
                                  std::span<const std::int32_t> tokens) {
  const auto backend = make_oracle_backend(scheme);
  auto session = backend->open_session(model, tokens.size());
  if (!session) return session.error();
  ForwardOptions options;
  options.logit_rows = LogitRows::kAll;
  return (*session)->forward(tokens, options);
}

// The row before token t predicts token t.
Result<Band> measure_band(const Model& model, const GreedyExpectation& greedy) {
  const auto exact = all_logits(ActivationScheme::kExact, model, greedy.tokens);
  if (!exact) return exact.error();
  const auto emulated = all_logits(ActivationScheme::kEmulatedInt8, model, greedy.tokens);
  if (!emulated) return emulated.error();
  Band band;
  for (std::size_t t = greedy.prompt_length; t < greedy.tokens.size(); ++t) {
    for (std::size_t i = 0; i < exact->columns(); ++i) {
      band.noise = std::max(band.noise, std::abs((*exact)(t - 1, i) - (*emulated)(t - 1, i)));
    }
  }
  const std::vector<double> margins = top1_margins(exact->view());
  for (std::size_t t = greedy.prompt_length; t < greedy.tokens.size(); ++t) {
    band.is_outside.push_back(margins[t - 1] > 2.0 * band.noise);
  }
  return band;
}

void decode(const Subject& subject, const GreedyExpectation& greedy, const Band& band,
            Judge* judge) {
  const std::span<const std::int32_t> tokens = greedy.tokens;
  auto session = subject.backend.open_session(*subject.model, tokens.size());
  if (!session) return judge_subject_error(session.error(), "open_session", judge);
  std::span<const std::int32_t> next = tokens.first(greedy.prompt_length);
  std::size_t wrong = 0;
  std::size_t wrong_inside = 0;
  for (std::size_t t = greedy.prompt_length; t < tokens.size(); ++t) {
    if (judge->is_settled()) break;
    const std::string place = "token " + std::to_string(t);
    const auto logits = (*session)->forward(next, {});
    if (!logits) return judge_subject_error(logits.error(), place, judge);
    const auto found = static_cast<std::int32_t>(argmax_per_row(logits->view()).front());
    if (band.is_outside[t - greedy.prompt_length]) {
      if (found != tokens[t]) ++wrong;
      judge->measure("wrong_tokens", static_cast<double>(wrong),
                     place + " (expected " + std::to_string(tokens[t]) + ", found " +
                         std::to_string(found) + ")");
      judge->count_case(found != tokens[t]);
    } else if (found != tokens[t]) {
      ++wrong_inside;
    }
    next = tokens.subspan(t, 1);
  }
  judge->note(std::to_string(wrong_inside) + " tokens inside the noise differ");
}

}  // namespace

Verdict falsify_greedy_continues_identically(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  if (!subject.pack->greedy()) return Verdict::not_run("the pack holds no greedy continuation");
  const GreedyExpectation& greedy = *subject.pack->greedy();
  Band band;
  band.is_outside.assign(greedy.tokens.size() - greedy.prompt_length, true);
  if (subject.backend.id() != BackendId::kOracle) {
    auto measured = measure_band(*subject.model, greedy);
    if (!measured) {
      judge_reference_error(measured.error(), "greedy tokens", &judge);
      return judge.verdict();
    }
    band = std::move(*measured);
  }
  const auto outside = std::ranges::count(band.is_outside, true);
  judge.note(std::to_string(outside) + " of " + std::to_string(band.is_outside.size()) +
             " steps have a margin above twice the noise of " + std::to_string(band.noise) +
             " logits");
  decode(subject, greedy, band, &judge);
  return judge.verdict();
}

const FalsifierInfo& greedy_continues_identically_info() {
  static constexpr FalsifierInfo kInfo = {
      .id = "greedy.continues_identically",
      .claim =
          "Greedy decoding from the pack's prompt gives its continuation: every token on the "
          "oracle, every token whose margin exceeds twice the int8 noise on fast backends.",
      .why = "An argmax cannot change while every logit moves by less than half the margin.",
      .catches = "Wrong tokens, and faults that only many decode steps show.",
      .misses = "Errors below the margin, and steps inside the noise.",
      .source = "Greedy continuation computed in float64.",
      .metrics = kMetrics,
      .backends = kAllBackends,
      .needs_model = true,
      .needs_pack = true,
      .falsify = falsify_greedy_continues_identically,
      .lacking = [](const OraclePack& pack) -> std::string_view {
        return pack.greedy() ? "" : "greedy_tokens";
      },
  };
  return kInfo;
}

}  // namespace refute
