// Faults of reading stored blocks: Q4_K (F2 to F8, F91) and Q6_K (F9 to F12, F90, F92). Built for
// seeding faults only (kernels/faults.h).
//
// Most of them read a block as if other bytes stood there, and are done as a change of a copy of
// the block, so that the real code runs on it.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "kernels/faults.h"
#include "kernels/quant/blocks.h"
#include "kernels/quant/dequantize.h"

namespace refute::faulty {

// Changes a copy of block `index` of a row of `count` blocks.
inline void edit_block(FaultHost, std::size_t, std::size_t, BlockQ8_0&) {}
inline void edit_block(FaultHost, std::size_t, std::size_t, BlockQ5K&) {}
void edit_block(FaultHost host, std::size_t index, std::size_t count, BlockQ4K& block);
void edit_block(FaultHost host, std::size_t index, std::size_t count, BlockQ6K& block);

// Changes dequantized values where no block holds the wrong ones (F9, F10).
template <typename Block, typename Real>
void edit_values(const Block&, Real*) {}
void edit_values(const BlockQ6K& block, double* values);
void edit_values(const BlockQ6K& block, float* values);

// Whether a fault of this type's blocks could be seeded on the CPU (of F91 only where
// `vectorised`).
bool edits_rows(TensorType type, bool vectorised);
// All rows with every block changed. Precondition: edits_rows.
std::vector<std::byte> edited_rows(const WeightView& weight, bool vectorised);

}  // namespace refute::faulty
