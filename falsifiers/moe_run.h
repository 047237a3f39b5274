// One run of a MoE block with everything that it traces.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/backend.h"
#include "falsifiers/owned_weights.h"
#include "kernels/matrix.h"
#include "kernels/result.h"

namespace refute {

struct MoeRun {
  Matrix<double> logits;           // [num_tokens, num_experts]
  Matrix<std::int32_t> ids;        // [num_tokens, k]
  Matrix<double> weights;          // [num_tokens, k]
  Matrix<double> gate, up, inner;  // [num_tokens * k, moe_intermediate_size]
  Matrix<double> out;              // [num_tokens * k, hidden_size]
  Matrix<double> traced_y, y;      // [num_tokens, hidden_size]
};

// moe_ffn_forward_layer as layer 0 at position 0. Its error, or kInvalidShape when a trace point is
// missing, has another shape, or an id is out of range.
Result<MoeRun> run_moe(const Backend& backend, const OwnedLayer& layer, const Matrix<double>& x,
                       const ForcedRoutes* forced_routes = nullptr);

// expert_swiglu of one expert of the layer.
Result<void> run_expert(const Backend& backend, const OwnedLayer& layer, std::size_t expert,
                        std::span<const double> x, std::span<double> y);

}  // namespace refute
