// The router's choice for the tokens of a call, or the routes that were given instead.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "engine/forward.h"
#include "kernels/route.h"

namespace refute {

// router_logits [num_tokens, num_experts]; ids and weights of `routing` [num_tokens,
// num_experts_per_tok]. With options.forced_routes the ids are those of the layer and the weights
// still come from these logits. Precondition: check_moe_ffn_forward_layer. Errors: those of route.
template <typename Real>
Result<void> choose_experts(const Matrix<Real>& router_logits, bool norm_topk_prob,
                            std::size_t layer_index, std::size_t first_position,
                            const ForwardOptions& options, Routing<Real>& routing) {
  for (std::size_t t = 0; t < router_logits.rows(); ++t) {
    const auto ids = routing.ids.row(t);
    const auto weights = routing.weights.row(t);
    Result<void> ok;
    if (options.forced_routes == nullptr) {
      ok = route<Real>(router_logits.row(t), norm_topk_prob, ids, weights);
    } else {
      const ForcedRoutes& routes = *options.forced_routes;
      const std::size_t row = first_position - routes.first_position + t;
      std::ranges::copy(routes.ids[layer_index].row(row), ids.begin());
      ok = routing_weights<Real>(router_logits.row(t), norm_topk_prob, ids, weights);
    }
    if (!ok) return ok;
  }
  return {};
}

}  // namespace refute
