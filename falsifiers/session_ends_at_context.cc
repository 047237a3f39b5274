// Claim: A model of n positions decodes its last positions as prefill does, bit for bit; the token
//   at position n is a ContextFull error that changes nothing, in decode, in one prefill and in a
//   chunk that begins before it; and no session of more than n positions opens.
// Why: Positions past the context have no rope angle and no cache row; a token that wraps into row
//   0 or takes the last angle gives numbers that look like an answer.
// Catches: A position that wraps or is clamped, tables one row short, a session that moves on a
//   refused call.
// Misses: Errors before the last positions; forward.decode_equals_prefill sees those.
// Source: Comparison class E; faults 99 and 107 of the catalogue.
#include "falsifiers/session_ends_at_context.h"

#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/backend.h"
#include "falsifiers/judge.h"
#include "falsifiers/parity.h"
#include "falsifiers/property.h"
#include "falsifiers/synthetic_run.h"

namespace refute {
namespace {

constexpr std::string_view kId = "session.ends_at_context";

constexpr std::array<MetricInfo, 2> kMetrics = {{
    kDifferingElements,
    {"accepted",
     "Positions past the context that are no ContextFull error, or leave a trace; fewer "
     "than one.",
     false, 0.5},
}};

constexpr std::array<std::size_t, 4> kContexts = {1, 2, 9, 24};

using Tokens = std::span<const std::int32_t>;

// Whether `tokens` are refused as they must be and the length stays.
bool refuses(Session& session, Tokens tokens) {
  const std::size_t length = session.length();
  const auto logits = session.forward(tokens, {});
  return !logits && logits.error().kind == ErrorKind::kContextFull && session.length() == length;
}

void at_the_end(const Backend& backend, PropertyCase& property_case, std::size_t index) {
  const std::size_t context = kContexts[index];
  SynthOptions options = synthetic_options(SyntheticShape::kNarrow, property_case.seed("model"));
  options.config.max_position_embeddings = context;
  const Model model = SyntheticFile::make(options).value().load().value();
  auto tokens = random_tokens(model.config(), property_case.seed("tokens"), context);
  tokens.push_back(tokens.front());  // The one too many.
  const Tokens all = tokens;
  const auto measure_refusal = [&](bool refused, std::string_view where) {
    property_case.measure("accepted", refused ? 0.0 : 1.0,
                          std::string(where) + " of " + std::to_string(context));
  };

  const auto too_long = backend.open_session(model, context + 1);
  measure_refusal(!too_long && too_long.error().kind == ErrorKind::kContextFull,
                  "a session past the context");
  const auto prefilled = backend.open_session(model, context);
  const auto decoded = backend.open_session(model, context);
  if (!property_case.require_ok(prefilled, "open_session") ||
      !property_case.require_ok(decoded, "open_session")) {
    return;
  }
  measure_refusal(refuses(**prefilled, all), "prefill past the context");
  ForwardOptions every_row;
  every_row.logit_rows = LogitRows::kAll;
  const auto prefill = (*prefilled)->forward(all.first(context), every_row);
  if (!property_case.require_ok(prefill, "prefill of the whole context")) return;
  for (std::size_t position = 0; position < context; ++position) {
    if (position + 1 == context) {
      measure_refusal(refuses(**decoded, all.last(2)), "a chunk across the end");
    }
    const auto logits = (*decoded)->forward(all.subspan(position, 1), {});
    if (!property_case.require_ok(logits, "decode")) return;
    measure_equal_bits(property_case, {prefill->row(position).data(), 1, prefill->columns()},
                       logits->view(), "position " + std::to_string(position));
  }
  measure_refusal(refuses(**decoded, all.last(1)), "decode past the context");
  measure_refusal(refuses(**prefilled, all.last(1)), "decode past a prefilled context");
}

}  // namespace

Verdict falsify_session_ends_at_context(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  check_pinned({kId, "at_the_end"}, criterion, &judge, kContexts.size(),
               [&](PropertyCase& property_case, std::size_t index) {
                 at_the_end(subject.backend, property_case, index);
               });
  return judge.verdict();
}

const FalsifierInfo& session_ends_at_context_info() {
  static const FalsifierInfo info = {
      .id = kId,
      .claim =
          "A model of n positions decodes its last positions as prefill does, bit for bit; the "
          "token at position n is a ContextFull error that changes nothing, and no session of more "
          "than n positions opens.",
      .why =
          "Positions past the context have no rope angle and no cache row; a token that wraps "
          "gives numbers that look like an answer.",
      .catches =
          "A position that wraps or is clamped, tables one row short, a session that moves on a "
          "refused call.",
      .misses = "Errors before the last positions.",
      .source = "Comparison class E; faults 99 and 107 of the catalogue.",
      .metrics = kMetrics,
      .backends = kAllBackends,
      .needs_model = false,
      .needs_pack = false,
      .falsify = falsify_session_ends_at_context,
  };
  return info;
}

}  // namespace refute
