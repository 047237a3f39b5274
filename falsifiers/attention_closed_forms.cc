// Claim: One cached position returns its value exactly, constant values return themselves and equal
//   keys the mean of the visible values within 2e-6, two positions the sigmoid of their scores'
//   difference, zeroed values of one key-value head zero exactly its query heads, and rows that a
//   token must not see change no bit while those it sees do.
// Why: Each case has an answer that needs no reference, and together they pin mask, groups,
//   denominator and which rows are read.
// Catches: A mask that sees the next token or hides the own one, grouped heads taken modulo, a
//   denominator off, a wrong or missing scale, padding or stale rows that leak in.
// Misses: Errors that need many positions of unlike scores.
// Source: Closed forms of softmax attention.
#include "falsifiers/attention_closed_forms.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <string_view>

#include "engine/backend.h"
#include "falsifiers/attention_case.h"
#include "falsifiers/generators.h"
#include "falsifiers/judge.h"
#include "falsifiers/property.h"

namespace refute {
namespace {

constexpr std::string_view kId = "attention.closed_forms";

constexpr std::array<MetricInfo, 6> kMetrics = {{
    {"single_error", "Elements that differ from v with one cached position; fewer than one.", false,
     0.5},
    {"mean_error", "|y - mean of visible values| over the largest value, keys of zero.", false,
     2e-6},
    {"constant_error", "|y - v| over the largest value, v the same in all positions.", false, 2e-6},
    {"two_position_error", "|y - sigmoid mix of two values| over the largest value, two positions.",
     false, 2e-6},
    {"wrong_heads", "Query heads changed or kept against the grouping; fewer than one.", false,
     0.5},
    {"leaks",
     "Rows that change with what they must not see, or do not with what they must; fewer than "
     "one.",
     false, 0.5},
}};

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

void single_position(const Backend& backend, PropertyCase& property_case) {
  AttentionCase drawn = draw_attention(property_case);
  drawn.keep_tokens(1, 0);
  const auto y = drawn.run(backend);
  if (!property_case.require_ok(y, "attention")) return;
  double differing = 0.0;
  for (std::size_t i = 0; i < y->columns(); ++i) {
    if ((*y)(0, i) != drawn.v(0, drawn.value_column(i))) differing += 1.0;
  }
  property_case.measure("single_error", differing, "one cached position");
  if (drawn.k.rows() > 1) property_case.mark_interesting();  // Rows behind it could leak in.
}

// Largest |y - expected| over `scale`, expected of (token, column).
template <typename Expected>
double worst_error(const Matrix<double>& y, double scale, const Expected& expected) {
  double worst = 0.0;
  for (std::size_t t = 0; t < y.rows(); ++t) {
    for (std::size_t i = 0; i < y.columns(); ++i) {
      const double error = std::abs(y(t, i) - expected(t, i)) / scale;
      if (!(error <= worst)) worst = error;
    }
  }
  return worst;
}

double largest(const Matrix<double>& values) {
  double result = 0.0;
  for (const double value : values.flat()) result = std::max(result, std::abs(value));
  return result;
}

void equal_keys(const Backend& backend, PropertyCase& property_case) {
  AttentionCase drawn = draw_attention(property_case);
  std::ranges::fill(drawn.k.flat(), 0.0);
  const auto y = drawn.run(backend);
  if (!property_case.require_ok(y, "attention")) return;
  const auto mean = [&](std::size_t t, std::size_t i) {
    const std::size_t kv_len = drawn.first_position + t + 1;
    double sum = 0.0;
    for (std::size_t s = 0; s < kv_len; ++s) sum += drawn.v(s, drawn.value_column(i));
    return sum / static_cast<double>(kv_len);
  };
  property_case.measure("mean_error", worst_error(*y, largest(drawn.v), mean), "keys of zero");
  if (drawn.first_position + y->rows() > 1) property_case.mark_interesting();
}

void constant_values(const Backend& backend, PropertyCase& property_case) {
  AttentionCase drawn = draw_attention(property_case);
  for (std::size_t s = 1; s < drawn.v.rows(); ++s) {
    std::ranges::copy(drawn.v.row(0), drawn.v.row(s).begin());
  }
  const auto y = drawn.run(backend);
  if (!property_case.require_ok(y, "attention")) return;
  const auto constant = [&](std::size_t, std::size_t i) {
    return drawn.v(0, drawn.value_column(i));
  };
  property_case.measure("constant_error", worst_error(*y, largest(drawn.v), constant),
                        "the same values everywhere");
  if (drawn.first_position + y->rows() > 1) property_case.mark_interesting();
}

// The second of two positions: its own value counts sigmoid(own score - first score).
void two_positions(const Backend& backend, PropertyCase& property_case) {
  AttentionCase drawn = draw_attention(property_case);
  drawn.keep_tokens(1, 1);
  const auto y = drawn.run(backend);
  if (!property_case.require_ok(y, "attention")) return;
  const std::size_t head_dim = drawn.shape.head_dim;
  double furthest = 0.0;
  const auto mix = [&](std::size_t, std::size_t i) {
    const std::size_t column = drawn.value_column(i);
    const std::size_t first = column / head_dim * head_dim;
    double difference = 0.0;
    for (std::size_t lane = 0; lane < head_dim; ++lane) {
      const double query = drawn.q(0, i / head_dim * head_dim + lane);
      difference += query * (drawn.k(1, first + lane) - drawn.k(0, first + lane));
    }
    difference /= std::sqrt(static_cast<double>(head_dim));
    furthest = std::max(furthest, std::abs(difference));
    const double own = 1.0 / (1.0 + std::exp(-difference));
    return own * drawn.v(1, column) + (1.0 - own) * drawn.v(0, column);
  };
  property_case.measure("two_position_error", worst_error(*y, largest(drawn.v), mix),
                        "two positions");
  if (furthest > 0.5) property_case.mark_interesting();  // A wrong scale would show.
}

void zeroed_head(const Backend& backend, PropertyCase& property_case) {
  AttentionCase drawn = draw_attention(property_case);
  const auto before = drawn.run(backend);
  const std::size_t head_dim = drawn.shape.head_dim;
  const std::size_t zeroed =
      property_case.integer("key-value head", 0, drawn.shape.num_key_value_heads - 1);
  for (std::size_t s = 0; s < drawn.v.rows(); ++s) {
    std::ranges::fill(drawn.v.row(s).subspan(zeroed * head_dim, head_dim), 0.0);
  }
  const auto after = drawn.run(backend);
  if (!property_case.require_ok(before, "attention") ||
      !property_case.require_ok(after, "attention")) {
    return;
  }
  if (drawn.shape.num_key_value_heads > 1) property_case.mark_interesting();
  double wrong = 0.0;
  for (std::size_t i = 0; i < after->columns(); ++i) {
    const bool reads_it = drawn.value_column(i) / head_dim == zeroed;
    for (std::size_t t = 0; t < after->rows(); ++t) {
      const bool right = reads_it ? (*after)(t, i) == 0.0 : (*after)(t, i) == (*before)(t, i);
      if (!right) wrong += 1.0;
    }
  }
  property_case.measure("wrong_heads", wrong, "key-value head " + std::to_string(zeroed));
}

// Rows past what token t sees become NaN: row t keeps its bits. The last row it sees is then
// changed: row t must follow.
void causality(const Backend& backend, PropertyCase& property_case) {
  AttentionCase drawn = draw_attention(property_case);
  const std::size_t t = property_case.integer("token", 0, drawn.q.rows() - 1);
  const auto before = drawn.run(backend);
  const std::size_t kv_len = drawn.first_position + t + 1;
  for (Matrix<double>* cache : {&drawn.k, &drawn.v}) {
    std::ranges::fill(cache->flat().subspan(kv_len * cache->columns()), kNan);
  }
  const auto poisoned = drawn.run(backend);
  for (double& value : drawn.v.row(kv_len - 1)) value += 1.0;
  const auto changed = drawn.run(backend);
  if (!property_case.require_ok(before, "attention") ||
      !property_case.require_ok(poisoned, "attention") ||
      !property_case.require_ok(changed, "attention")) {
    return;
  }
  const bool kept = std::ranges::equal(before->row(t), poisoned->row(t));
  property_case.measure("leaks", kept ? 0.0 : 1.0, "rows after token " + std::to_string(t));
  const bool followed = !std::ranges::equal(before->row(t), changed->row(t));
  property_case.measure("leaks", followed ? 0.0 : 1.0, "own row of token " + std::to_string(t));
}

}  // namespace

Verdict falsify_attention_closed_forms(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  const auto check = [&](std::string_view name, double least_interesting, auto property) {
    check_property({kId, name, least_interesting}, with_fewer_cases(criterion, 2), &judge,
                   [&](PropertyCase& property_case) { property(subject.backend, property_case); });
  };
  check("single_position", 0.5, single_position);
  check("equal_keys", 0.5, equal_keys);
  check("constant_values", 0.5, constant_values);
  check("two_positions", 0.5, two_positions);
  check("zeroed_head", 0.3, zeroed_head);
  check("causality", 0.0, causality);
  return judge.verdict();
}

const FalsifierInfo& attention_closed_forms_info() {
  static const FalsifierInfo info = {
      .id = kId,
      .claim =
          "One cached position returns its value exactly, constant values return themselves and "
          "equal keys the mean of the visible values within 2e-6, two positions the sigmoid of "
          "their scores' difference, zeroed values of one key-value head zero exactly its query "
          "heads, and rows that a token must not see change no bit while those it sees do.",
      .why =
          "Each case has an answer that needs no reference, and together they pin mask, groups, "
          "denominator and which rows are read.",
      .catches =
          "A mask that sees the next token or hides the own one, grouped heads taken modulo, a "
          "denominator off, a wrong or missing scale, padding or stale rows that leak in.",
      .misses = "Errors that need many positions of unlike scores.",
      .source = "Closed forms of softmax attention.",
      .metrics = kMetrics,
      .backends = kAllBackends,
      .needs_model = false,
      .needs_pack = false,
      .falsify = falsify_attention_closed_forms,
  };
  return info;
}

}  // namespace refute
