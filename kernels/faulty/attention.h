// Faults of attention: F56, F61 to F63, F65 to F68, F70, F105, F110. Built for seeding faults only
// (kernels/faults.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/attention.h"
#include "kernels/faults.h"

namespace refute::faulty {

// Changes what head `head` of row `row` of a call's `num_rows` reads.
template <typename Real>
void edit_read(const AttentionShape& shape, std::size_t row, std::size_t num_rows, std::size_t head,
               HeadRead<Real>& read);

// Recomputes a head's scores with query and keys turned by one angle, which leaves them what they
// are but for rounding (F56). keys: those of the head, `stride` elements apart.
void turn_scores(std::span<const double> query, const double* keys, std::size_t stride,
                 double scale, std::span<double> scores);
void turn_scores(std::span<const float> query, const std::uint16_t* keys, std::size_t stride,
                 float scale, std::span<float> scores);

// Whether the scores are small enough for their exponentials as they are, and F110 seeded.
bool skips_maximum(std::span<const double> scores);

// The sum of a head's exponentials (F68), and what it gave (F70).
template <typename Real>
Real edit_denominator(Real denominator);
template <typename Real>
void edit_head(std::size_t head, std::span<Real> y);

}  // namespace refute::faulty
