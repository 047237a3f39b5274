#include "falsifiers/comparison_gates.h"

#include <fmt/format.h>

#include <string>

namespace refute {
namespace {

void judge_refusal(const Error& error, std::string_view where, Judge* judge) {
  const std::string reason = std::string(where) + ": " + error.message();
  const bool of_reference = error.where.find("reference") != std::string::npos;
  if (error.kind == ErrorKind::kVacuous) {
    judge->give_up(reason);
  } else if (of_reference) {
    judge->fail(reason);
  } else if (error.kind == ErrorKind::kNonFinite) {
    judge->refute_by_trap(reason);
  } else {
    judge->refute(reason);
  }
}

}  // namespace

bool measure_comparison(MatrixView<const double> reference, MatrixView<const double> candidate,
                        const ComparisonGates& gates, std::string_view where, Judge* judge) {
  const auto comparison = compare(reference, candidate);
  if (!comparison) {
    judge_refusal(comparison.error(), where, judge);
    judge->count_case(true);
    return false;
  }
  bool held = true;
  const auto measure = [&](std::string_view metric, double value, const std::string& place) {
    if (!metric.empty()) held = judge->measure(metric, value, place) && held;
  };
  const std::string site(where);
  const std::string row = " row ";
  measure(gates.relative_l2, comparison->relative_l2, site);
  measure(gates.worst_row_relative_l2, comparison->worst_row_relative_l2,
          site + row + std::to_string(comparison->worst_row));
  measure(gates.linf_over_rms, comparison->linf_over_rms,
          site + row + std::to_string(comparison->linf_row) + " column " +
              std::to_string(comparison->linf_column));
  measure(gates.scale_error, comparison->scale_error, site);
  measure(gates.worst_row_cosine, comparison->worst_row_cosine,
          site + row + std::to_string(comparison->worst_cosine_row));
  measure(gates.mean_offset_over_rms, comparison->mean_offset_over_rms, site);
  judge->count_case(!held);
  return held;
}

bool measure_differing(std::string_view metric, MatrixView<const double> reference,
                       MatrixView<const double> candidate, std::string_view where, Judge* judge) {
  const auto differing = count_differing_bits(reference, candidate);
  if (!differing) judge_refusal(differing.error(), where, judge);
  const bool held = differing && judge->measure(metric, static_cast<double>(*differing), where);
  judge->count_case(!held);
  return held;
}

std::string short_number(double value) { return fmt::format("{:.2g}", value); }

}  // namespace refute
