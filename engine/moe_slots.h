// Bookkeeping of a MoE block: which rows of work belong to which expert.
//
// A slot is a (token, rank) pair, numbered token * num_experts_per_tok + rank. The block computes
// its slots grouped by expert, so that each expert's weights are read once a call, and puts the
// results back into slot order.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

#include "kernels/matrix.h"

namespace refute {

struct ExpertGroup {
  std::size_t expert = 0;
  std::size_t begin = 0;  // Rows [begin, end) of the grouped order.
  std::size_t end = 0;
};

struct SlotGrouping {
  std::vector<std::size_t> slots;    // slots[row of the grouped order] = slot
  std::vector<ExpertGroup> experts;  // Those with at least one slot, ascending.
};

// ids [num_tokens, num_experts_per_tok], each in [0, num_experts). Slots of one expert stay
// ascending.
SlotGrouping group_slots_by_expert(MatrixView<const std::int32_t> ids, std::size_t num_experts);

// result[slots[i]] = grouped[i]
template <typename T>
Matrix<T> in_slot_order(const Matrix<T>& grouped, std::span<const std::size_t> slots) {
  CHECK(grouped.rows() == slots.size());
  Matrix<T> result(grouped.rows(), grouped.columns());
  for (std::size_t i = 0; i < slots.size(); ++i) {
    std::ranges::copy(grouped.row(i), result.row(slots[i]).begin());
  }
  return result;
}

// Elements before row `row` of a block's scratch: 350000 rows of a wide model pass 2^31 of them.
// float64 in the oracle, float32 on the CPU.
template <typename Real>
std::size_t scratch_offset(std::size_t row, std::size_t columns);
extern template std::size_t scratch_offset<double>(std::size_t, std::size_t);
extern template std::size_t scratch_offset<float>(std::size_t, std::size_t);

// The rows [begin, end) of a block's scratch.
template <typename T>
MatrixView<T> row_range(MatrixView<T> matrix, std::size_t begin, std::size_t end) {
  CHECK(begin <= end && end <= matrix.rows);
  const std::size_t offset = scratch_offset<std::remove_const_t<T>>(begin, matrix.columns);
  return {matrix.data + offset, end - begin, matrix.columns};
}

}  // namespace refute
