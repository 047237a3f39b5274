// One stage of the forward pass alone: the table of what each trace point is computed from, and by
// which op. The forward passes themselves are in engine/forward_*.cc; this is how a stage of one
// run is computed again, by another backend, from bit-identical inputs.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/backend.h"
#include "engine/model.h"
#include "engine/trace.h"
#include "falsifiers/traced_run.h"
#include "kernels/matrix.h"
#include "kernels/result.h"

namespace refute {

// What a stage may be fed with: values at trace points, of one run that starts at position 0.
struct StageInputs {
  std::span<const std::int32_t> tokens;  // Of the whole run.
  const TraceTensors& tensors;
};

// The trace points that the stage of `site` reads; none for the embedding, which reads the tokens.
std::vector<TraceSite> stage_inputs(const Config& config, TraceSite site);

// The value at `site` as `with` computes it from the nearest inputs that are there: an input that
// is not is computed from its own inputs first, so that fewer recorded points give longer composed
// stages (attn_out from attn_norm alone is the whole attention block). moe_out without expert_out
// is one call of moe_ffn_forward_layer, on the routes of router_index when they are there.
// router_index is returned as float64. kInvalidShape when a recorded input does not start at
// position 0; otherwise the errors of the ops.
Result<Matrix<double>> replay_stage(const Backend& with, const Model& model, TraceSite site,
                                    const StageInputs& inputs);

// The weight whose stored bytes the last op of this stage reads as a matmul; null for other stages.
// For stages of experts, the first expert's.
const TensorTypeInfo* matmul_weight_type(const Model& model, TraceSite site);

}  // namespace refute
