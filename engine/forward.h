// The public functions of the engine: what the contracts' stages speak of. Each exists per backend
// with the same arguments and the same errors, because all of them check through
// engine/arguments.h.
//
// Errors of all: kInvalidShape with expected and found for every length, dimension or index that
// does not fit; kNonFinite for NaN or Inf in hidden states, router logits or logits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/backend_id.h"
#include "engine/kv_cache.h"
#include "engine/model.h"
#include "engine/trace.h"
#include "kernels/cpu/context.h"
#include "kernels/matmul.h"
#include "kernels/matrix.h"
#include "kernels/result.h"

namespace refute {

// The stored bytes of one expert's matrix. kInvalidShape when the expert does not exist or its
// slice does not lie inside the tensor. Every backend takes its expert weights through this
// function.
Result<std::span<const std::byte>> expert_byte_slice(const ExpertStack& stack, std::size_t expert);

// Experts chosen beforehand, instead of by the router: the routing of the float64 oracle, say, so
// that a near tie does not send two runs down different paths.
struct ForcedRoutes {
  std::size_t first_position = 0;
  // A layer each, [num_tokens, num_experts_per_tok]; row t belongs to position first_position + t.
  // The weights are still computed from this run's own router logits.
  std::vector<Matrix<std::int32_t>> ids;
};

enum class LogitRows { kLast, kAll };

struct ForwardOptions {
  LogitRows logit_rows = LogitRows::kLast;
  TraceSink* trace = nullptr;                   // Borrowed; absent when null.
  const ForcedRoutes* forced_routes = nullptr;  // Borrowed; the router decides when null.
  // When given: filled with the backend that executed each layer of this call.
  std::vector<BackendId>* executed = nullptr;
};

// The router's choice for some tokens.
template <typename Real>
struct Routing {
  Matrix<std::int32_t> ids;  // [num_tokens, num_experts_per_tok], descending probability
  Matrix<Real> weights;      // [num_tokens, num_experts_per_tok]
};

namespace oracle {

using refute::expert_byte_slice;

// y[r] = weight[r] . x   x [columns], y [rows]
Result<void> matvec(ActivationScheme scheme, const WeightView& weight, std::span<const double> x,
                    std::span<double> y);
// The same for Q4_K and Q6_K bytes without a view: kInvalidShape unless `weight` is exactly rows *
// row_bytes(type, columns) long and columns a multiple of 256.
Result<void> q4k_matvec(ActivationScheme scheme, std::span<const std::byte> weight,
                        std::size_t rows, std::size_t columns, std::span<const double> x,
                        std::span<double> y);
Result<void> q6k_gemv(ActivationScheme scheme, std::span<const std::byte> weight, std::size_t rows,
                      std::size_t columns, std::span<const double> x, std::span<double> y);

// y = down_proj (silu(gate_proj x) * up_proj x)   x, y [hidden_size]
Result<void> expert_swiglu(ActivationScheme scheme, const WeightView& gate_proj,
                           const WeightView& up_proj, const WeightView& down_proj,
                           std::span<const double> x, std::span<double> y);

// The MoE block on normalised hidden states: router, softmax, top-k, experts, weighted sum.
//   x, y  [num_tokens, hidden_size]
Result<void> moe_ffn_forward_layer(ActivationScheme scheme, const Config& config,
                                   const LayerWeights& layer, std::size_t layer_index,
                                   std::size_t first_position, MatrixView<const double> x,
                                   const ForwardOptions& options, MatrixView<double> y);

// Appends `tokens` to the sequence in `cache` and returns logits [1 or num_tokens, vocab_size].
// kInvalidToken for an id outside the vocabulary, kContextFull past the cache or the model's
// context; on any error the cache keeps its length.
Result<Matrix<double>> forward_qwen3_moe(ActivationScheme scheme, const Model& model,
                                         const RopeTable& rope_table,
                                         std::span<const std::int32_t> tokens,
                                         KvCache<double>& cache, const ForwardOptions& options);

}  // namespace oracle

namespace cpu {

class PackedWeights;  // engine/cpu_weights.h

using refute::expert_byte_slice;

Result<void> matvec(const Context& context, const WeightView& weight, std::span<const float> x,
                    std::span<float> y);
Result<void> q4k_matvec(const Context& context, std::span<const std::byte> weight, std::size_t rows,
                        std::size_t columns, std::span<const float> x, std::span<float> y);
Result<void> q6k_gemv(const Context& context, std::span<const std::byte> weight, std::size_t rows,
                      std::size_t columns, std::span<const float> x, std::span<float> y);
Result<void> expert_swiglu(const Context& context, const WeightView& gate_proj,
                           const WeightView& up_proj, const WeightView& down_proj,
                           std::span<const float> x, std::span<float> y);
Result<void> moe_ffn_forward_layer(const Context& context, const Config& config,
                                   const LayerWeights& layer, std::size_t layer_index,
                                   std::size_t first_position, MatrixView<const float> x,
                                   const ForwardOptions& options, MatrixView<float> y);
// `packed`: of this model, or empty; the results are the same. likeliest, unless null, becomes the
// first of the largest logits of the last token.
Result<Matrix<float>> forward_qwen3_moe(const Context& context, const Model& model,
                                        const PackedWeights& packed, const RopeTable& rope_table,
                                        std::span<const std::int32_t> tokens,
                                        KvCache<std::uint16_t>& cache,
                                        const ForwardOptions& options,
                                        std::int32_t* likeliest = nullptr);

}  // namespace cpu
}  // namespace refute
