#include "engine/arguments.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <type_traits>

namespace refute {
namespace {

Error invalid_shape(std::string_view function, std::string_view argument, std::string expected,
                    std::string found) {
  return {ErrorKind::kInvalidShape, std::string(function) + " " + std::string(argument),
          std::move(expected), std::move(found)};
}

std::string text(MatrixShape shape) {
  return "[" + std::to_string(shape.rows) + ", " + std::to_string(shape.columns) + "]";
}

Result<void> check_size(std::string_view function, std::string_view argument, std::size_t expected,
                        std::size_t found) {
  if (expected == found) return {};
  return invalid_shape(function, argument, std::to_string(expected) + " elements",
                       std::to_string(found));
}

Result<void> check_shape(std::string_view function, std::string_view argument, MatrixShape expected,
                         MatrixShape found) {
  if (expected.rows == found.rows && expected.columns == found.columns) return {};
  return invalid_shape(function, argument, text(expected), text(found));
}

Result<void> check_weight(std::string_view function, std::string_view argument,
                          const WeightView& weight) {
  const TensorTypeInfo& info = tensor_type_info(weight.type);
  if (!info.is_weight) {
    return invalid_shape(function, argument, "a weight type", std::string(info.name));
  }
  if (weight.rows == 0 || weight.columns == 0 || weight.data == nullptr) {
    return invalid_shape(function, argument, "at least one row and column",
                         text({weight.rows, weight.columns}));
  }
  if (weight.columns % info.block_size != 0) {
    return invalid_shape(function, argument,
                         "columns a multiple of " + std::to_string(info.block_size) + " (" +
                             std::string(info.name) + ")",
                         std::to_string(weight.columns));
  }
  return {};
}

Result<void> check_weight_shape(std::string_view function, std::string_view argument,
                                const WeightView& weight, MatrixShape expected) {
  if (auto ok = check_weight(function, argument, weight); !ok) return ok;
  return check_shape(function, argument, expected, {weight.rows, weight.columns});
}

Result<void> check_stack(std::string_view function, std::string_view argument,
                         const ExpertStack& stack, std::size_t num_experts, MatrixShape expected) {
  if (stack.num_experts != num_experts) {
    return invalid_shape(function, argument, std::to_string(num_experts) + " experts",
                         std::to_string(stack.num_experts));
  }
  // The last expert's slice lies inside the tensor only if all do.
  const auto last = expert_byte_slice(stack, num_experts - 1);
  if (!last) return last.error();
  return check_weight_shape(function, argument, stack.expert(0), expected);
}

// Lanes that a compiler makes wide: logits are many, and one thread waits for them. An exponent of
// all ones, and no other, carries into the sign.
template <typename Real>
bool all_finite(std::span<const Real> values) {
  using Bits = std::conditional_t<sizeof(Real) == 4, std::uint32_t, std::uint64_t>;
  constexpr auto kInfinity = std::bit_cast<Bits>(std::numeric_limits<Real>::infinity());
  constexpr Bits kSign = Bits{1} << (8 * sizeof(Bits) - 1);
  const auto carried = [](Real value) {
    return (std::bit_cast<Bits>(value) & ~kSign) + (kSign - kInfinity);
  };
  std::array<Bits, 16> seen{};
  std::size_t i = 0;
  for (; i + seen.size() <= values.size(); i += seen.size()) {
    for (std::size_t lane = 0; lane < seen.size(); ++lane) seen[lane] |= carried(values[i + lane]);
  }
  for (; i < values.size(); ++i) seen[0] |= carried(values[i]);
  return std::ranges::all_of(seen, [](Bits bits) { return (bits & kSign) == 0; });
}

template <typename Real>
Result<void> check_finite_values(std::string_view where, MatrixView<const Real> x) {
  for (std::size_t r = 0; r < x.rows; ++r) {
    if (all_finite(x.row(r))) continue;
    for (std::size_t c = 0; c < x.columns; ++c) {
      const Real value = x.data[r * x.columns + c];
      if (!std::isfinite(value)) {
        return Error{
            ErrorKind::kNonFinite,
            std::string(where) + " row " + std::to_string(r) + " column " + std::to_string(c),
            "a finite number",
            std::isnan(value) ? "nan"
            : value > 0       ? "inf"
                              : "-inf"};
      }
    }
  }
  return {};
}

}  // namespace

Result<std::span<const std::byte>> expert_byte_slice(const ExpertStack& stack, std::size_t expert) {
  constexpr std::string_view kFunction = "expert_byte_slice";
  const TensorTypeInfo& info = tensor_type_info(stack.type);
  if (!info.is_weight || stack.rows == 0 || stack.columns == 0 ||
      stack.columns % info.block_size != 0) {
    return invalid_shape(kFunction, "stack",
                         "a weight type with rows and columns, columns a multiple of its block",
                         std::string(info.name) + " " + text({stack.rows, stack.columns}));
  }
  if (expert >= stack.num_experts) {
    return invalid_shape(kFunction, "expert",
                         "below num_experts = " + std::to_string(stack.num_experts),
                         std::to_string(expert));
  }
  const std::size_t bytes = stack.bytes_per_expert();
  // Division, not multiplication: expert * bytes must not wrap.
  if (stack.data.size() / bytes <= expert) {
    return invalid_shape(kFunction, "data",
                         std::to_string(bytes) + " bytes at expert " + std::to_string(expert),
                         "a tensor of " + std::to_string(stack.data.size()) + " bytes");
  }
  return stack.data.subspan(expert * bytes, bytes);
}

Result<void> check_matvec(std::string_view function, const WeightView& weight, std::size_t x_size,
                          std::size_t y_size) {
  if (auto ok = check_weight(function, "weight", weight); !ok) return ok;
  if (auto ok = check_size(function, "x", weight.columns, x_size); !ok) return ok;
  return check_size(function, "y", weight.rows, y_size);
}

Result<WeightView> check_typed_matvec(std::string_view function, TensorType type,
                                      std::span<const std::byte> weight, std::size_t rows,
                                      std::size_t columns, std::size_t x_size, std::size_t y_size) {
  const TensorTypeInfo& info = tensor_type_info(type);
  if (rows == 0 || columns == 0) {
    return invalid_shape(function, "shape", "at least one row and column", text({rows, columns}));
  }
  if (columns % info.block_size != 0) {
    return invalid_shape(function, "columns", "a multiple of " + std::to_string(info.block_size),
                         std::to_string(columns));
  }
  // Division, not multiplication: rows * row_bytes must not wrap.
  const std::size_t bytes_per_row = row_bytes(type, columns);
  if (weight.size() % bytes_per_row != 0 || weight.size() / bytes_per_row != rows) {
    return invalid_shape(
        function, "weight",
        std::to_string(rows) + " rows of " + std::to_string(bytes_per_row) + " bytes",
        std::to_string(weight.size()) + " bytes");
  }
  if (auto ok = check_size(function, "x", columns, x_size); !ok) return ok.error();
  if (auto ok = check_size(function, "y", rows, y_size); !ok) return ok.error();
  return WeightView{type, rows, columns, weight.data()};
}

Result<void> check_expert_swiglu(const WeightView& gate_proj, const WeightView& up_proj,
                                 const WeightView& down_proj, std::size_t x_size,
                                 std::size_t y_size) {
  constexpr std::string_view kFunction = "expert_swiglu";
  if (auto ok = check_weight(kFunction, "gate_proj", gate_proj); !ok) return ok;
  const MatrixShape inner{gate_proj.rows, gate_proj.columns};
  if (auto ok = check_weight_shape(kFunction, "up_proj", up_proj, inner); !ok) return ok;
  const MatrixShape outer{gate_proj.columns, gate_proj.rows};
  if (auto ok = check_weight_shape(kFunction, "down_proj", down_proj, outer); !ok) return ok;
  if (auto ok = check_size(kFunction, "x", gate_proj.columns, x_size); !ok) return ok;
  return check_size(kFunction, "y", gate_proj.columns, y_size);
}

Result<void> check_moe_ffn_forward_layer(const Config& config, const LayerWeights& layer,
                                         std::size_t layer_index, std::size_t first_position,
                                         MatrixShape x, MatrixShape y,
                                         const ForwardOptions& options) {
  constexpr std::string_view kFunction = "moe_ffn_forward_layer";
  if (config.num_experts == 0 || config.num_experts_per_tok == 0 ||
      config.num_experts_per_tok > config.num_experts) {
    return invalid_shape(kFunction, "num_experts_per_tok",
                         "1 to num_experts = " + std::to_string(config.num_experts),
                         std::to_string(config.num_experts_per_tok));
  }
  const MatrixShape router{config.num_experts, config.hidden_size};
  const MatrixShape inner{config.moe_intermediate_size, config.hidden_size};
  const MatrixShape outer{config.hidden_size, config.moe_intermediate_size};
  if (auto ok = check_weight_shape(kFunction, "router", layer.router, router); !ok) return ok;
  if (auto ok = check_stack(kFunction, "gate_proj", layer.gate_proj, config.num_experts, inner);
      !ok)
    return ok;
  if (auto ok = check_stack(kFunction, "up_proj", layer.up_proj, config.num_experts, inner); !ok)
    return ok;
  if (auto ok = check_stack(kFunction, "down_proj", layer.down_proj, config.num_experts, outer);
      !ok)
    return ok;
  if (x.rows == 0) return invalid_shape(kFunction, "x", "at least one token", text(x));
  if (auto ok = check_shape(kFunction, "x", {x.rows, config.hidden_size}, x); !ok) return ok;
  if (auto ok = check_shape(kFunction, "y", x, y); !ok) return ok;
  if (options.forced_routes != nullptr) {
    const ForcedRoutes& routes = *options.forced_routes;
    if (layer_index >= routes.ids.size()) {
      return invalid_shape(kFunction, "forced_routes",
                           "ids of layer " + std::to_string(layer_index),
                           std::to_string(routes.ids.size()) + " layers");
    }
    const Matrix<std::int32_t>& ids = routes.ids[layer_index];
    if (ids.columns() != config.num_experts_per_tok || first_position < routes.first_position ||
        first_position - routes.first_position + x.rows > ids.rows()) {
      return invalid_shape(kFunction, "forced_routes",
                           std::to_string(config.num_experts_per_tok) +
                               " ids for each position from " + std::to_string(first_position) +
                               " to " + std::to_string(first_position + x.rows - 1),
                           text({ids.rows(), ids.columns()}) + " from position " +
                               std::to_string(routes.first_position));
    }
    for (const std::int32_t id : ids.flat()) {
      if (id < 0 || static_cast<std::size_t>(id) >= config.num_experts) {
        return invalid_shape(kFunction, "forced_routes",
                             "ids below num_experts = " + std::to_string(config.num_experts),
                             std::to_string(id));
      }
    }
  }
  return {};
}

Result<void> check_forward(const Model& model, const RopeTable& rope_table,
                           std::span<const std::int32_t> tokens, std::size_t length,
                           std::size_t capacity, const ForwardOptions& options) {
  constexpr std::string_view kFunction = "forward_qwen3_moe";
  const Config& config = model.config();
  if (tokens.empty()) return invalid_shape(kFunction, "tokens", "at least one token", "0");
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    if (tokens[t] < 0 || static_cast<std::size_t>(tokens[t]) >= config.vocab_size) {
      return Error{
          ErrorKind::kInvalidToken, std::string(kFunction) + " tokens[" + std::to_string(t) + "]",
          "an id from 0 to " + std::to_string(config.vocab_size - 1), std::to_string(tokens[t])};
    }
  }
  if (tokens.size() > capacity - length) {
    return Error{ErrorKind::kContextFull, std::string(kFunction) + " tokens",
                 "at most " + std::to_string(capacity - length) + " more tokens (capacity " +
                     std::to_string(capacity) + ", held " + std::to_string(length) + ")",
                 std::to_string(tokens.size())};
  }
  if (rope_table.head_dim() != config.head_dim ||
      rope_table.num_positions() < length + tokens.size()) {
    return invalid_shape(kFunction, "rope_table",
                         "head_dim " + std::to_string(config.head_dim) + " and " +
                             std::to_string(length + tokens.size()) + " positions",
                         "head_dim " + std::to_string(rope_table.head_dim()) + " and " +
                             std::to_string(rope_table.num_positions()));
  }
  if (options.forced_routes != nullptr &&
      options.forced_routes->ids.size() != config.num_hidden_layers) {
    return invalid_shape(kFunction, "forced_routes",
                         std::to_string(config.num_hidden_layers) + " layers",
                         std::to_string(options.forced_routes->ids.size()));
  }
  return {};
}

Result<void> check_capacity(const Config& config, std::size_t capacity) {
  if (capacity == 0) return invalid_shape("open_session", "capacity", "at least one position", "0");
  if (capacity > config.max_position_embeddings) {
    return Error{
        ErrorKind::kContextFull, "open_session capacity",
        "at most max_position_embeddings = " + std::to_string(config.max_position_embeddings),
        std::to_string(capacity)};
  }
  return {};
}

Result<void> check_rollback(std::size_t length, std::size_t held) {
  if (length <= held) return {};
  return invalid_shape("rollback", "length", "at most the held " + std::to_string(held),
                       std::to_string(length));
}

Result<void> check_matmul(const WeightView& weight, MatrixShape x) {
  if (auto ok = check_weight("matmul", "weight", weight); !ok) return ok;
  return check_shape("matmul", "x", {x.rows, weight.columns}, x);
}

Result<void> check_embed(const WeightView& embed_tokens, std::span<const std::int32_t> tokens) {
  if (auto ok = check_weight("embed", "embed_tokens", embed_tokens); !ok) return ok;
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    if (tokens[t] < 0 || static_cast<std::size_t>(tokens[t]) >= embed_tokens.rows) {
      return Error{ErrorKind::kInvalidToken, "embed tokens[" + std::to_string(t) + "]",
                   "an id from 0 to " + std::to_string(embed_tokens.rows - 1),
                   std::to_string(tokens[t])};
    }
  }
  return {};
}

Result<void> check_rms_norm(MatrixShape x, std::size_t weight_size) {
  if (x.columns == 0) return invalid_shape("rms_norm", "x", "at least one column", text(x));
  return check_size("rms_norm", "weight", x.columns, weight_size);
}

Result<void> check_rope(const RopeTable& table, std::size_t num_heads, std::size_t first_position,
                        MatrixShape x) {
  if (auto ok = check_shape("rope", "x", {x.rows, num_heads * table.head_dim()}, x); !ok) return ok;
  if (first_position > table.num_positions() || x.rows > table.num_positions() - first_position) {
    return invalid_shape("rope", "first_position",
                         "positions below " + std::to_string(table.num_positions()),
                         std::to_string(x.rows) + " rows from " + std::to_string(first_position));
  }
  return {};
}

Result<void> check_attention(const AttentionShape& shape, MatrixShape q, MatrixShape k,
                             MatrixShape v, std::size_t first_position) {
  constexpr std::string_view kFunction = "attention";
  if (shape.num_key_value_heads == 0 || shape.head_dim == 0 || shape.num_attention_heads == 0 ||
      shape.num_attention_heads % shape.num_key_value_heads != 0) {
    return invalid_shape(kFunction, "heads", "num_key_value_heads that divide num_attention_heads",
                         std::to_string(shape.num_key_value_heads) + " and " +
                             std::to_string(shape.num_attention_heads));
  }
  if (auto ok = check_shape(kFunction, "q", {q.rows, shape.query_size()}, q); !ok) return ok;
  if (auto ok = check_shape(kFunction, "k", {k.rows, shape.key_value_size()}, k); !ok) return ok;
  if (auto ok = check_shape(kFunction, "v", k, v); !ok) return ok;
  if (k.rows < q.rows || first_position > k.rows - q.rows) {
    return invalid_shape(kFunction, "k",
                         "at least first_position + num_tokens = " +
                             std::to_string(first_position + q.rows) + " rows",
                         std::to_string(k.rows));
  }
  return {};
}

Result<void> check_same_shape(std::string_view function, MatrixShape a, MatrixShape b) {
  return check_shape(function, "second argument", a, b);
}

Result<void> check_combine(MatrixShape expert_out, MatrixShape weight) {
  return check_shape("combine", "expert_out", {weight.rows * weight.columns, expert_out.columns},
                     expert_out);
}

Error uncacheable(std::string_view name, std::size_t position, double value) {
  return {ErrorKind::kNonFinite, std::string(name) + " of position " + std::to_string(position),
          "a number that float16 holds", std::to_string(value)};
}

Error in_layer(std::size_t layer, Error error) {
  error.where = "layer " + std::to_string(layer) + " " + error.where;
  return error;
}

Result<void> check_finite(std::string_view where, MatrixView<const double> x) {
  return check_finite_values(where, x);
}

Result<void> check_finite(std::string_view where, MatrixView<const float> x) {
  return check_finite_values(where, x);
}

}  // namespace refute
