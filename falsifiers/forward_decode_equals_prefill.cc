// Claim: decoding a prompt token by token gives bitwise what prefilling it at once gives, at every
//   trace point and in every logit.
// Why it must hold: no op's order of additions depends on how many tokens a call brings
//   (kernels/*.h), and a row depends on earlier tokens only through the cache.
// Catches: a mask or position off by one in one of the two, wrong or stale cache rows, a kernel for
//   one token that differs from the one for many, tiles that leak between rows.
// Misses: errors that both share.
// Source: comparison class E.
#include "falsifiers/forward_decode_equals_prefill.h"

#include <array>
#include <string>

#include "falsifiers/parity.h"
#include "falsifiers/seeded_random.h"
#include "falsifiers/traced_run.h"

namespace refute {
namespace {

constexpr std::array<std::size_t, 3> kPromptLengths = {2, 9, 33};

constexpr std::array<MetricInfo, 1> kMetrics = {{kDifferingElements}};

}  // namespace

Verdict falsify_forward_decode_equals_prefill(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  const Config& config = subject.model->config();
  for (std::size_t i = 0; i < kPromptLengths.size(); ++i) {
    if (judge.is_settled()) break;
    const auto tokens = random_tokens(config, mix_seed(criterion.seed, i), kPromptLengths[i]);
    const std::string where = "prompt of " + std::to_string(tokens.size()) + " decoded";
    const auto prefill = run_traced(subject.backend, *subject.model, tokens);
    const auto decode =
        run_traced(subject.backend, *subject.model, tokens, {.chunk = 1, .forced_routes = nullptr});
    if (!prefill || !decode) {
      judge_subject_error(prefill ? decode.error() : prefill.error(), where, &judge);
      continue;
    }
    measure_differing_elements(config, *prefill, *decode, tokens.size(), "differing_elements",
                               where, &judge);
  }
  return judge.verdict();
}

const FalsifierInfo& forward_decode_equals_prefill_info() {
  static constexpr FalsifierInfo kInfo = {
      .id = "forward.decode_equals_prefill",
      .claim =
          "Decoding a prompt token by token gives bitwise what prefilling it gives, at every trace "
          "point.",
      .why = "No order of additions depends on how many tokens a call brings.",
      .catches =
          "Mask or position off by one in one of the two, stale cache rows, kernels that differ by "
          "batch.",
      .misses = "Errors that both share.",
      .source = "Comparison class E.",
      .metrics = kMetrics,
      .backends = kAllBackends,
      .needs_model = true,
      .needs_pack = false,
      .falsify = falsify_forward_decode_equals_prefill,
  };
  return kInfo;
}

}  // namespace refute
