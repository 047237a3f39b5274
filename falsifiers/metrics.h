// The one metric library: how far a candidate is from a reference. All in float64.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/matrix.h"
#include "kernels/result.h"

namespace refute {

// Distances of candidate y' from reference y, both [rows, columns].
struct Comparison {
  double relative_l2 = 0.0;            // |y' - y| / |y| over the whole tensor
  double worst_row_relative_l2 = 0.0;  // The largest over rows.
  std::size_t worst_row = 0;           // Where that is.
  double linf_over_rms = 0.0;          // max |y' - y| / RMS(y)
  std::size_t linf_row = 0;
  std::size_t linf_column = 0;
  double scale_error = 0.0;       // |<y, y'> / <y, y> - 1|
  double worst_row_cosine = 1.0;  // The smallest over rows.
  std::size_t worst_cosine_row = 0;
  double mean_offset_over_rms = 0.0;  // |mean(y' - y)| / RMS(y)
  double rms_reference = 0.0;
};

// Refuses what cannot be compared, before any metric: kInvalidShape when the shapes differ or hold
// no element, or when both are the same memory; kNonFinite for NaN or Inf on either side, with its
// row and column; kVacuous when the RMS of the reference is below `rms_floor`, because relative
// metrics say nothing about it. A row of zeros in the reference must be zero in the candidate (else
// its relative error is infinite); its cosine counts as 1 when both are zero.
Result<Comparison> compare(MatrixView<const double> reference, MatrixView<const double> candidate,
                           double rms_floor = 1e-30);

// Number of elements whose bits differ (float64 patterns; -0 differs from 0). Same refusals of
// shape.
Result<std::size_t> count_differing_bits(MatrixView<const double> a, MatrixView<const double> b);

// Number of elements that are NaN or Inf.
std::size_t count_non_finite(MatrixView<const double> values);

// Kullback-Leibler divergence of softmax(candidate) from softmax(reference), in nats, per row.
Result<std::vector<double>> softmax_kl_per_row(MatrixView<const double> reference,
                                               MatrixView<const double> candidate);

// Per row: the reference's largest value minus its second largest.
std::vector<double> top1_margins(MatrixView<const double> logits);
// Per row: the index of the largest value, ties to the lowest.
std::vector<std::size_t> argmax_per_row(MatrixView<const double> logits);

// How a candidate's expert choices stand to a reference's.
struct RoutingComparison {
  std::size_t tokens = 0;
  std::size_t in_band = 0;  // Tokens whose reference gap between rank k and k + 1 is a near tie.
  std::size_t wrong_outside = 0;  // Tokens outside of the band whose sets differ.
  std::size_t first_wrong = 0;    // The first such token.
};
// ids: [num_tokens, k]. reference_logits [num_tokens, num_experts]. A token is in the tie band when
// its reference logits of rank k and k + 1 are closer than 2 * logit_error_bound. Ids are compared
// as sets; ids that are not distinct or out of range count as wrong wherever they are.
Result<RoutingComparison> compare_routing(MatrixView<const std::int32_t> reference_ids,
                                          MatrixView<const std::int32_t> candidate_ids,
                                          MatrixView<const double> reference_logits,
                                          double logit_error_bound);

}  // namespace refute
