// Claim: prefilling a prompt in chunks of 1, 7, 8, 9, 13, 15, 16, 17, 31, 32, 33, 63, 64, 65 tokens
//   or in halves gives bitwise what prefilling it at once gives, at every trace point and in every
//   logit.
// Why it must hold: as for forward.decode_equals_prefill; the chunks stand on both sides of the
//   tiles of 8, 16, 32 and 64 and are no divisors of the prompt.
// Catches: tails of tiles (rows % 8), chunk borders in mask, position or cache, buffers sized by
//   the first chunk, split sizes chosen by batch.
// Misses: errors that every split shares.
// Source: comparison class E.
#include "falsifiers/forward_chunked_prefill.h"

#include <algorithm>
#include <array>
#include <span>
#include <string>

#include "falsifiers/parity.h"
#include "falsifiers/traced_run.h"

namespace refute {
namespace {

constexpr std::size_t kNumTokens = 67;
// The oracle has no tiles, and is slow: 8 and 9 stand for all sizes.
constexpr std::size_t kNumTokensOracle = 10;
// The least tokens that chunks are tried on; more where that is not two chunks and a tail.
constexpr std::size_t kLeastTokens = 17;

// 0: halves.
constexpr std::array<std::size_t, 15> kChunks = {1,  7,  8,  9,  13, 15, 16, 17,
                                                 31, 32, 33, 63, 64, 65, 0};

constexpr std::array<MetricInfo, 1> kMetrics = {{kDifferingElements}};

}  // namespace

Verdict falsify_forward_chunked_prefill(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  const Config& config = subject.model->config();
  const bool is_oracle = subject.backend.id() == BackendId::kOracle;
  const auto tokens =
      random_tokens(config, criterion.seed, is_oracle ? kNumTokensOracle : kNumTokens);
  const auto whole = run_traced(subject.backend, *subject.model, tokens);
  if (!whole) {
    judge_subject_error(whole.error(), "prefill", &judge);
    return judge.verdict();
  }
  for (const std::size_t listed : kChunks) {
    if (judge.is_settled()) break;
    const std::size_t chunk = listed == 0 ? (tokens.size() + 1) / 2 : listed;
    if (chunk > 1 && chunk >= tokens.size()) continue;  // One call, which is what it is held to.
    const std::string where = "chunks of " + std::to_string(chunk);
    // The first tokens of a sequence do not depend on those after them.
    const std::size_t count = std::min(tokens.size(), std::max(kLeastTokens, 2 * chunk + 3));
    const auto chunked = run_traced(subject.backend, *subject.model, std::span(tokens).first(count),
                                    {.chunk = chunk, .forced_routes = nullptr});
    if (!chunked) {
      judge_subject_error(chunked.error(), where, &judge);
      continue;
    }
    measure_differing_elements(config, *whole, *chunked, count, "differing_elements", where,
                               &judge);
  }
  return judge.verdict();
}

const FalsifierInfo& forward_chunked_prefill_info() {
  static constexpr FalsifierInfo kInfo = {
      .id = "forward.chunked_prefill",
      .claim =
          "Prefilling in chunks around 8, 16, 32 and 64 tokens, of 1, 13, or in halves gives "
          "bitwise what one call gives.",
      .why = "No order of additions depends on how many tokens a call brings.",
      .catches =
          "Tails of tiles, chunk borders in mask, position or cache, buffers sized by the first "
          "chunk.",
      .misses = "Errors that every split shares.",
      .source = "Comparison class E.",
      .metrics = kMetrics,
      .backends = kAllBackends,
      .needs_model = true,
      .needs_pack = false,
      .falsify = falsify_forward_chunked_prefill,
  };
  return kInfo;
}

}  // namespace refute
