#include "falsifiers/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <string_view>

namespace refute {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::string shape_text(std::size_t rows, std::size_t columns) {
  return "[" + std::to_string(rows) + ", " + std::to_string(columns) + "]";
}

template <typename T>
bool overlap(MatrixView<const T> a, MatrixView<const T> b) {
  const std::less<const T*> before;
  return before(a.data, b.data + b.size()) && before(b.data, a.data + a.size());
}

// The refusals that need no look at the values.
template <typename T>
Result<void> check_shapes(std::string_view where, MatrixView<const T> reference,
                          MatrixView<const T> candidate) {
  if (reference.rows != candidate.rows || reference.columns != candidate.columns) {
    return Error{ErrorKind::kInvalidShape, std::string(where) + " candidate",
                 "the reference's shape " + shape_text(reference.rows, reference.columns),
                 shape_text(candidate.rows, candidate.columns)};
  }
  if (reference.size() == 0) {
    return Error{ErrorKind::kInvalidShape, std::string(where), "at least one element",
                 shape_text(reference.rows, reference.columns)};
  }
  if (overlap(reference, candidate)) {
    return Error{ErrorKind::kInvalidShape, std::string(where), "two separate buffers",
                 "the same memory on both sides"};
  }
  return {};
}

Result<void> check_finite(const std::string& where, MatrixView<const double> values) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values.data[i])) {
      return Error{ErrorKind::kNonFinite,
                   where + " row " + std::to_string(i / values.columns) + " column " +
                       std::to_string(i % values.columns),
                   "a finite number", std::to_string(values.data[i])};
    }
  }
  return {};
}

Result<void> check_comparable(std::string_view where, MatrixView<const double> reference,
                              MatrixView<const double> candidate) {
  if (auto shapes = check_shapes(where, reference, candidate); !shapes) return shapes.error();
  if (auto finite = check_finite(std::string(where) + " reference", reference); !finite) {
    return finite.error();
  }
  return check_finite(std::string(where) + " candidate", candidate);
}

// Sums over one row of what every metric is made of.
struct RowSums {
  double reference = 0.0;  // <y, y>
  double candidate = 0.0;  // <y', y'>
  double product = 0.0;    // <y, y'>
  double error = 0.0;      // |y' - y|^2
  double offset = 0.0;     // sum of y' - y
};

RowSums sum_row(std::span<const double> reference, std::span<const double> candidate) {
  RowSums sums;
  for (std::size_t c = 0; c < reference.size(); ++c) {
    const double difference = candidate[c] - reference[c];
    sums.reference += reference[c] * reference[c];
    sums.candidate += candidate[c] * candidate[c];
    sums.product += reference[c] * candidate[c];
    sums.error += difference * difference;
    sums.offset += difference;
  }
  return sums;
}

double relative(double error, double reference) {
  if (error == 0.0) return 0.0;
  return reference > 0.0 ? std::sqrt(error / reference) : kInfinity;
}

// NaN (from squares that overflow) counts as worse than anything.
bool worse(double value, double than) { return !(value <= than); }

std::vector<double> log_softmax(std::span<const double> logits) {
  const double max = *std::max_element(logits.begin(), logits.end());
  double sum = 0.0;
  for (const double logit : logits) sum += std::exp(logit - max);
  std::vector<double> result(logits.size());
  for (std::size_t i = 0; i < logits.size(); ++i) result[i] = logits[i] - max - std::log(sum);
  return result;
}

// The ids as a membership table; empty when one is out of range or occurs twice.
std::vector<bool> as_set(std::span<const std::int32_t> ids, std::size_t num_experts) {
  std::vector<bool> chosen(num_experts);
  for (const std::int32_t id : ids) {
    if (id < 0 || static_cast<std::size_t>(id) >= num_experts) return {};
    if (chosen[static_cast<std::size_t>(id)]) return {};
    chosen[static_cast<std::size_t>(id)] = true;
  }
  return chosen;
}

// How far the best expert left out stands above the worst one chosen, in logits; negative when the
// choice is a top k.
double overtaking(const std::vector<bool>& chosen, std::span<const double> logits) {
  double lowest_chosen = kInfinity;
  double highest_left_out = -kInfinity;
  for (std::size_t e = 0; e < logits.size(); ++e) {
    if (chosen[e]) {
      lowest_chosen = std::min(lowest_chosen, logits[e]);
    } else {
      highest_left_out = std::max(highest_left_out, logits[e]);
    }
  }
  return highest_left_out - lowest_chosen;
}

}  // namespace

Result<Comparison> compare(MatrixView<const double> reference, MatrixView<const double> candidate,
                           double rms_floor) {
  if (auto ok = check_comparable("compare", reference, candidate); !ok) return ok.error();

  Comparison result;
  RowSums total;
  double linf = 0.0;
  for (std::size_t r = 0; r < reference.rows; ++r) {
    const RowSums row = sum_row(reference.row(r), candidate.row(r));
    total.reference += row.reference;
    total.product += row.product;
    total.error += row.error;
    total.offset += row.offset;

    const double row_error = relative(row.error, row.reference);
    if (worse(row_error, result.worst_row_relative_l2)) {
      result.worst_row_relative_l2 = row_error;
      result.worst_row = r;
    }
    double cosine = 0.0;
    if (row.reference == 0.0 && row.candidate == 0.0) {
      cosine = 1.0;
    } else if (row.reference != 0.0 && row.candidate != 0.0) {
      cosine = row.product / (std::sqrt(row.reference) * std::sqrt(row.candidate));
    }
    if (!(cosine >= result.worst_row_cosine)) {
      result.worst_row_cosine = cosine;
      result.worst_cosine_row = r;
    }
    for (std::size_t c = 0; c < reference.columns; ++c) {
      const double difference = std::abs(candidate.row(r)[c] - reference.row(r)[c]);
      if (worse(difference, linf)) {
        linf = difference;
        result.linf_row = r;
        result.linf_column = c;
      }
    }
  }

  const auto count = static_cast<double>(reference.size());
  result.rms_reference = std::sqrt(total.reference / count);
  if (!(result.rms_reference >= rms_floor) || result.rms_reference == 0.0) {
    return Error{ErrorKind::kVacuous, "compare reference",
                 fmt::format("a root mean square of at least {:.3g}", rms_floor),
                 fmt::format("{:.3g}", result.rms_reference)};
  }
  result.relative_l2 = relative(total.error, total.reference);
  result.linf_over_rms = linf / result.rms_reference;
  result.scale_error = std::abs(total.product / total.reference - 1.0);
  result.mean_offset_over_rms = std::abs(total.offset / count) / result.rms_reference;
  return result;
}

Result<std::size_t> count_differing_bits(MatrixView<const double> a, MatrixView<const double> b) {
  if (auto ok = check_shapes("count_differing_bits", a, b); !ok) return ok.error();
  std::size_t differing = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::memcmp(a.data + i, b.data + i, sizeof(double)) != 0) ++differing;
  }
  return differing;
}

std::size_t count_non_finite(MatrixView<const double> values) {
  const auto bad = [](double value) { return !std::isfinite(value); };
  return static_cast<std::size_t>(std::ranges::count_if(values.flat(), bad));
}

Result<std::vector<double>> softmax_kl_per_row(MatrixView<const double> reference,
                                               MatrixView<const double> candidate) {
  if (auto ok = check_comparable("softmax_kl_per_row", reference, candidate); !ok) {
    return ok.error();
  }
  std::vector<double> result(reference.rows);
  for (std::size_t r = 0; r < reference.rows; ++r) {
    const std::vector<double> log_p = log_softmax(reference.row(r));
    const std::vector<double> log_q = log_softmax(candidate.row(r));
    double divergence = 0.0;
    for (std::size_t i = 0; i < log_p.size(); ++i) {
      // sum p log(p / q), with sum q - p = 0 added so that every term is at least 0.
      const double p = std::exp(log_p[i]);
      divergence += p * (log_p[i] - log_q[i]) + (std::exp(log_q[i]) - p);
    }
    result[r] = divergence < 0.0 ? 0.0 : divergence;
  }
  return result;
}

std::vector<double> top1_margins(MatrixView<const double> logits) {
  CHECK(logits.columns > 0);
  std::vector<double> margins(logits.rows);
  for (std::size_t r = 0; r < logits.rows; ++r) {
    double first = -kInfinity;
    double second = -kInfinity;
    for (const double logit : logits.row(r)) {
      if (logit > first) {
        second = first;
        first = logit;
      } else if (logit > second) {
        second = logit;
      }
    }
    margins[r] = first - second;
  }
  return margins;
}

std::vector<std::size_t> argmax_per_row(MatrixView<const double> logits) {
  CHECK(logits.columns > 0);
  std::vector<std::size_t> result(logits.rows);
  for (std::size_t r = 0; r < logits.rows; ++r) {
    const auto row = logits.row(r);
    result[r] = static_cast<std::size_t>(std::max_element(row.begin(), row.end()) - row.begin());
  }
  return result;
}

Result<RoutingComparison> compare_routing(MatrixView<const std::int32_t> reference_ids,
                                          MatrixView<const std::int32_t> candidate_ids,
                                          MatrixView<const double> reference_logits,
                                          double logit_error_bound) {
  if (auto ok = check_shapes("compare_routing ids", reference_ids, candidate_ids); !ok) {
    return ok.error();
  }
  const std::size_t k = reference_ids.columns;
  if (reference_logits.rows != reference_ids.rows || reference_logits.columns < k) {
    return Error{ErrorKind::kInvalidShape, "compare_routing reference_logits",
                 std::to_string(reference_ids.rows) + " rows of at least " + std::to_string(k),
                 shape_text(reference_logits.rows, reference_logits.columns)};
  }
  if (auto ok = check_finite("compare_routing reference_logits", reference_logits); !ok) {
    return ok.error();
  }

  RoutingComparison result;
  result.tokens = reference_ids.rows;
  for (std::size_t t = 0; t < reference_ids.rows; ++t) {
    const auto logits = reference_logits.row(t);
    std::vector<double> sorted(logits.begin(), logits.end());
    std::sort(sorted.begin(), sorted.end(), std::greater<>());
    const double gap = k < sorted.size() ? sorted[k - 1] - sorted[k] : kInfinity;
    const bool in_band = gap < 2.0 * logit_error_bound;
    if (in_band) ++result.in_band;

    const std::vector<bool> expected = as_set(reference_ids.row(t), logits.size());
    const std::vector<bool> chosen = as_set(candidate_ids.row(t), logits.size());
    bool right = !expected.empty() && !chosen.empty();
    if (right && chosen != expected) {
      right = in_band && overtaking(chosen, logits) < 2.0 * logit_error_bound;
    }
    if (!right) {
      if (result.wrong_outside == 0) result.first_wrong = t;
      ++result.wrong_outside;
    }
  }
  return result;
}

}  // namespace refute
