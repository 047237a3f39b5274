// Faults of the MoE block (F20, F38, F39, F98, F118, F119), of the cache (F64, F101, F122) and of
// the steps around them (F71 to F74, F87, F102, F125). Built for seeding faults only
// (kernels/faults.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/forward.h"
#include "engine/moe_slots.h"
#include "kernels/faults.h"
#include "kernels/matrix.h"

namespace refute::faulty {

// The routing of a call's tokens (F118), and which rows which expert computes (F98, F119).
template <typename Real>
void edit_routing(Routing<Real>& routing);
void edit_grouping(FaultHost host, std::size_t num_experts, SlotGrouping& grouping);
// One column of what the block gives (F20).
template <typename Real>
void edit_moe_out(MatrixView<Real> y);

// Fills row `position` of the cache wrongly and returns true. x: the row that belongs there, as the
// cache would hold it (double, or float16 bit patterns); exact: what it is made of.
template <typename Real, typename Cached>
bool append_row(std::size_t position, std::span<const Real> exact, std::span<const Cached> x,
                Matrix<Cached>& cache);
// What becomes of a value that float16 cannot hold, without Inf (F101).
float wrapped_half(float value);

// Scales queries as if head_dim were hidden_size / num_attention_heads (F102).
template <typename Real>
void edit_query(const Config& config, Matrix<Real>& q);
// The logits (F71 to F74), and how many of them there are (F125).
template <typename Real>
void edit_logits(Matrix<Real>& logits);

// Has the oracle compute the MoE block for the CPU, and returns its verdict (F87).
Result<void> moe_on_oracle(const Config& config, const LayerWeights& layer, std::size_t layer_index,
                           std::size_t first_position, MatrixView<const float> x,
                           const ForwardOptions& options, MatrixView<float> y);

}  // namespace refute::faulty
