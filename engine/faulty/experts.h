// Faults of where an expert's weights are found and what stands there: F13 to F19, F21, F40, F79,
// F81, F107a, F112, F113. Built for seeding faults only (kernels/faults.h).
#pragma once

#include <cstddef>
#include <functional>
#include <span>

#include "engine/model.h"
#include "kernels/faults.h"
#include "kernels/result.h"

namespace refute::faulty {

// The bytes taken for those of an expert.
Result<std::span<const std::byte>> expert_slice(FaultHost host, const ExpertStack& stack,
                                                std::size_t expert);

// Calls `multiply` with what is taken for the gate, up and down projections of an expert.
using MultiplyExpert = std::function<void(const WeightView& gate_proj, const WeightView& up_proj,
                                          const WeightView& down_proj)>;
void with_expert(FaultHost host, const LayerWeights& layer, std::size_t layer_index,
                 std::size_t expert, const MultiplyExpert& multiply);

}  // namespace refute::faulty
