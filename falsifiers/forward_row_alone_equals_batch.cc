// Claim: In a forward pass of 1, 2, 7, 8, 9, 31, 32, 33, 63, 64, 65, 127 or 129 tokens the last
//   row of logits equals, bit for bit, that of a call that brings this token alone, every row
//   before it that of a call with one token less, and rows of different tokens differ.
// Why: No order of additions depends on how many tokens a call brings; the numbers stand on both
//   sides of the tiles that kernels have.
// Catches: Tail rows of a tile left out or left over, kernels chosen by batch size, an accumulator
//   kept from another row, a split of the cache by its length.
// Misses: Errors that rows share alone and in a batch.
// Source: Comparison class E; faults 41 to 43, 76 and 83 of the catalogue.
#include "falsifiers/forward_row_alone_equals_batch.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "engine/backend.h"
#include "falsifiers/judge.h"
#include "falsifiers/parity.h"
#include "falsifiers/property.h"
#include "falsifiers/synthetic_run.h"

namespace refute {
namespace {

constexpr std::string_view kId = "forward.row_alone_equals_batch";

constexpr std::array<MetricInfo, 2> kMetrics = {{
    kDifferingElements,
    {"equal_rows",
     "Last rows that equal the row before though their tokens do not; fewer than one.", false, 0.5},
}};

constexpr std::array<std::size_t, 8> kTokens = {1, 2, 8, 9, 32, 33, 65, 129};

void measure_batch(const Backend& backend, const SyntheticFile& file, std::size_t num_tokens,
                   PropertyCase& property_case) {
  const Model model = file.load().value();
  auto tokens = random_tokens(model.config(), property_case.seed("tokens"), num_tokens);
  const std::size_t last = num_tokens - 1;
  if (num_tokens > 1 && tokens[last] == tokens[last - 1]) tokens[last] = (tokens[last] + 1) % 40;
  const std::span<const std::int32_t> all = tokens;
  ForwardOptions options;
  options.logit_rows = LogitRows::kAll;
  const auto forward = [&](Session& session, std::span<const std::int32_t> some) {
    return session.forward(some, options);
  };
  const auto whole = backend.open_session(model, num_tokens);
  const auto parts = backend.open_session(model, num_tokens);
  if (!property_case.require_ok(whole, "open_session") ||
      !property_case.require_ok(parts, "open_session")) {
    return;
  }
  const auto batch = forward(**whole, all);
  if (!property_case.require_ok(batch, "forward")) return;
  if (!property_case.require(batch->rows() == num_tokens, "logits of another number of tokens")) {
    return;
  }
  const std::string where = std::to_string(num_tokens) + " tokens";
  if (last > 0) {
    const auto before = forward(**parts, all.first(last));
    if (!property_case.require_ok(before, "forward of one token less")) return;
    measure_equal_bits(property_case, before->view(), {batch->data(), last, batch->columns()},
                       where + ", all but the last row");
    property_case.measure("equal_rows",
                          std::ranges::equal(batch->row(last), batch->row(last - 1)) ? 1.0 : 0.0,
                          where);
  }
  const auto alone = forward(**parts, all.last(1));
  if (!property_case.require_ok(alone, "forward of the last token")) return;
  measure_equal_bits(property_case, {batch->row(last).data(), 1, batch->columns()}, alone->view(),
                     where + ", the last row");
}

}  // namespace

Verdict falsify_forward_row_alone_equals_batch(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  check_pinned({kId, "pinned"}, criterion, &judge, kTokens.size(),
               [&](PropertyCase& property_case, std::size_t index) {
                 const auto file = draw_file(property_case, SyntheticShape::kNarrow);
                 measure_batch(subject.backend, file, kTokens[index], property_case);
               });
  // Super-blocks; few, because the model is larger.
  check_property({kId, "super_blocks"}, with_fewer_cases(criterion, 33), &judge,
                 [&](PropertyCase& property_case) {
                   const auto file = draw_file(property_case, SyntheticShape::kWide);
                   measure_batch(subject.backend, file, property_case.integer("num_tokens", 1, 40),
                                 property_case);
                 });
  return judge.verdict();
}

const FalsifierInfo& forward_row_alone_equals_batch_info() {
  static const FalsifierInfo info = {
      .id = kId,
      .claim =
          "In a forward pass of 1 to 129 tokens every row of logits equals, bit for bit, that of a "
          "call with another number of tokens, the last one alone too.",
      .why = "No order of additions depends on how many tokens a call brings.",
      .catches =
          "Tail rows of a tile left out or left over, kernels chosen by batch size, an accumulator "
          "kept from another row, a split of the cache by its length.",
      .misses = "Errors that rows share alone and in a batch.",
      .source = "Comparison class E; faults 41 to 43, 76 and 83 of the catalogue.",
      .metrics = kMetrics,
      .backends = kAllBackends,
      .needs_model = false,
      .needs_pack = false,
      .falsify = falsify_forward_row_alone_equals_batch,
  };
  return info;
}

}  // namespace refute
