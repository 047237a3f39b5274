// Claim: Grouped-query attention over the same q and the same float16 keys and values agrees with
//   float64 within relative L2 5e-6, in prefill and in decode.
// Why: Scores of normalised heads stay below sqrt(head_dim), where the float32 exponential is
//   accurate to a few units in the last place.
// Catches: A mask off by one either way, a wrong scale, the wrong head of a group, a wrong softmax
//   denominator, head_dim taken as hidden_size / heads, stale cache rows.
// Misses: Errors of the cache itself, which the op is handed ready.
// Source: Vaswani et al., 2017; Ainslie et al., 2023; class A of the comparison classes.
#include "falsifiers/attention_matches_float64.h"

#include <string_view>

#include "engine/backend.h"
#include "falsifiers/attention_case.h"
#include "falsifiers/generators.h"
#include "falsifiers/judge.h"
#include "falsifiers/parity.h"
#include "falsifiers/property.h"

namespace refute {
namespace {

constexpr std::string_view kId = "attention.matches_float64";

constexpr auto kMetrics = kParityMetrics;

void agrees(const Backend& reference, const Backend& backend, PropertyCase& property_case) {
  const AttentionCase drawn = draw_attention(property_case);
  const auto expected = drawn.run(reference);
  const auto found = drawn.run(backend);
  if (!property_case.require_ok(expected, "oracle attention") ||
      !property_case.require_ok(found, "attention")) {
    return;
  }
  measure_parity(property_case, expected->view(), found->view(), "attention");
}

}  // namespace

Verdict falsify_attention_matches_float64(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  const auto oracle = make_oracle_backend(ActivationScheme::kExact);
  check_property({kId, "agrees"}, criterion, &judge, [&](PropertyCase& property_case) {
    agrees(*oracle, subject.backend, property_case);
  });
  return judge.verdict();
}

const FalsifierInfo& attention_matches_float64_info() {
  static const FalsifierInfo info = {
      .id = kId,
      .claim =
          "Grouped-query attention over the same q and the same float16 keys and values agrees "
          "with float64 within relative L2 5e-6, in prefill and in decode.",
      .why =
          "Scores of normalised heads stay below sqrt(head_dim), where the float32 exponential is "
          "accurate to a few units in the last place.",
      .catches =
          "A mask off by one either way, a wrong scale, the wrong head of a group, a wrong softmax "
          "denominator, head_dim taken as hidden_size / heads, stale cache rows.",
      .misses = "Errors of the cache itself, which the op is handed ready.",
      .source = "Vaswani et al., 2017; Ainslie et al., 2023; class A of the comparison classes.",
      .metrics = kMetrics,
      .backends = kFastBackends,
      .needs_model = false,
      .needs_pack = false,
      .falsify = falsify_attention_matches_float64,
  };
  return info;
}

}  // namespace refute
