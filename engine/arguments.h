// The argument checks of the engine's public functions, shared by all backends, so that the same
// bad input gives the same error everywhere.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "engine/config.h"
#include "engine/forward.h"
#include "engine/model.h"
#include "kernels/attention.h"
#include "kernels/result.h"
#include "kernels/rope.h"

namespace refute {

struct MatrixShape {
  std::size_t rows = 0;
  std::size_t columns = 0;
};

// Each returns the first violated condition, where naming `function` and the argument.
Result<void> check_matvec(std::string_view function, const WeightView& weight, std::size_t x_size,
                          std::size_t y_size);
// A view of the bytes of q4k_matvec and q6k_gemv, which are of `type`.
Result<WeightView> check_typed_matvec(std::string_view function, TensorType type,
                                      std::span<const std::byte> weight, std::size_t rows,
                                      std::size_t columns, std::size_t x_size, std::size_t y_size);
Result<void> check_expert_swiglu(const WeightView& gate_proj, const WeightView& up_proj,
                                 const WeightView& down_proj, std::size_t x_size,
                                 std::size_t y_size);
Result<void> check_moe_ffn_forward_layer(const Config& config, const LayerWeights& layer,
                                         std::size_t layer_index, std::size_t first_position,
                                         MatrixShape x, MatrixShape y,
                                         const ForwardOptions& options);
// `length` and `capacity` of the cache.
Result<void> check_forward(const Model& model, const RopeTable& rope_table,
                           std::span<const std::int32_t> tokens, std::size_t length,
                           std::size_t capacity, const ForwardOptions& options);
// A session's capacity against the model.
Result<void> check_capacity(const Config& config, std::size_t capacity);
Result<void> check_rollback(std::size_t length, std::size_t held);

// The ops of engine/backend.h.
Result<void> check_matmul(const WeightView& weight, MatrixShape x);
Result<void> check_embed(const WeightView& embed_tokens, std::span<const std::int32_t> tokens);
Result<void> check_rms_norm(MatrixShape x, std::size_t weight_size);
Result<void> check_rope(const RopeTable& table, std::size_t num_heads, std::size_t first_position,
                        MatrixShape x);
Result<void> check_attention(const AttentionShape& shape, MatrixShape q, MatrixShape k,
                             MatrixShape v, std::size_t first_position);
Result<void> check_same_shape(std::string_view function, MatrixShape a, MatrixShape b);
Result<void> check_combine(MatrixShape expert_out, MatrixShape weight);

template <typename T>
MatrixShape shape_of(MatrixView<T> view) {
  return {view.rows, view.columns};
}

// The error with "layer N" in front of where it happened.
Error in_layer(std::size_t layer, Error error);

// kNonFinite: `value`, part of the key or value (`name`) of a position, is not finite as float16.
Error uncacheable(std::string_view name, std::size_t position, double value);

// kNonFinite naming `where`, row and column of the first NaN or Inf.
Result<void> check_finite(std::string_view where, MatrixView<const double> x);
Result<void> check_finite(std::string_view where, MatrixView<const float> x);

}  // namespace refute
