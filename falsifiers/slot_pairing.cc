#include "falsifiers/slot_pairing.h"

#include <algorithm>
#include <limits>
#include <span>
#include <vector>

namespace refute {
namespace {

// For each rank of the reference the candidate's rank of the same expert; ranks without one get
// what is left, in order.
std::vector<std::size_t> paired_ranks(std::span<const double> reference,
                                      std::span<const double> candidate) {
  constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();
  std::vector<std::size_t> ranks(reference.size(), kNone);
  std::vector<bool> taken(candidate.size());
  for (std::size_t r = 0; r < reference.size(); ++r) {
    for (std::size_t c = 0; c < candidate.size() && ranks[r] == kNone; ++c) {
      if (taken[c] || candidate[c] != reference[r]) continue;
      ranks[r] = c;
      taken[c] = true;
    }
  }
  std::size_t next = 0;
  for (std::size_t& rank : ranks) {
    if (rank != kNone) continue;
    while (taken[next]) ++next;
    rank = next;
    taken[next] = true;
  }
  return ranks;
}

}  // namespace

Matrix<double> in_reference_order(const Matrix<double>& values, bool rows_of_slots,
                                  const Matrix<double>& reference_ids,
                                  const Matrix<double>& candidate_ids) {
  const std::size_t k = reference_ids.columns();
  Matrix<double> ordered(values.rows(), values.columns());
  for (std::size_t t = 0; t < reference_ids.rows(); ++t) {
    const auto ranks = paired_ranks(reference_ids.row(t), candidate_ids.row(t));
    for (std::size_t r = 0; r < k; ++r) {
      if (rows_of_slots) {
        std::ranges::copy(values.row(t * k + ranks[r]), ordered.row(t * k + r).begin());
      } else {
        ordered(t, r) = values(t, ranks[r]);
      }
    }
  }
  return ordered;
}

std::size_t count_other_sets(const Matrix<double>& a, const Matrix<double>& b,
                             std::size_t* first_token) {
  std::size_t count = 0;
  for (std::size_t t = 0; t < a.rows(); ++t) {
    std::vector<double> one(a.row(t).begin(), a.row(t).end());
    std::vector<double> other(b.row(t).begin(), b.row(t).end());
    std::ranges::sort(one);
    std::ranges::sort(other);
    if (one == other) continue;
    if (count == 0) *first_token = t;
    ++count;
  }
  return count;
}

}  // namespace refute
