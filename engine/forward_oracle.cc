// The float64 oracle: the forward pass of Qwen3-MoE in plain steps that read like the paper.
#include <algorithm>
#include <cmath>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/arguments.h"
#include "engine/choose_experts.h"
#include "engine/faulty/experts.h"
#include "engine/faulty/layer.h"
#include "engine/forward.h"
#include "engine/moe_slots.h"
#include "kernels/attention.h"
#include "kernels/combine.h"
#include "kernels/embed.h"
#include "kernels/faults.h"
#include "kernels/faulty/routing.h"
#include "kernels/quant/half.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/swiglu.h"

namespace refute::oracle {
namespace {

constexpr FaultHost kHost = FaultHost::kOracle;
// Taken where there is no token, by F124.
constexpr std::int32_t kTokenZero[] = {0};

Matrix<double> rms_norm(const Matrix<double>& x, std::span<const float> weight, float epsilon) {
  Matrix<double> y(x.rows(), x.columns());
  oracle::rms_norm(x.view(), weight, static_cast<double>(epsilon), y.view());
  return y;
}

// The same on each head of [num_tokens, num_heads * head_dim].
Matrix<double> head_norm(const Matrix<double>& x, std::span<const float> weight, float epsilon) {
  Matrix<double> y(x.rows(), x.columns());
  const std::size_t num_rows = x.size() / weight.size();
  oracle::rms_norm({x.data(), num_rows, weight.size()}, weight, static_cast<double>(epsilon),
                   {y.data(), num_rows, weight.size()});
  return y;
}

Matrix<double> matmul(ActivationScheme scheme, const WeightView& weight, const Matrix<double>& x) {
  Matrix<double> y(x.rows(), weight.rows);
  oracle::matmul(weight, x.view(), scheme, y.view());
  return y;
}

Matrix<double> add(const Matrix<double>& a, const Matrix<double>& b) {
  Matrix<double> y(a.rows(), a.columns());
  oracle::add(a.view(), b.view(), y.view());
  return y;
}

// As the cache of the fast paths would hold it when emulating.
double cached(ActivationScheme scheme, double value) {
  if (scheme == ActivationScheme::kExact) return value;
  return static_cast<double>(float_from_half(half_from_float(static_cast<float>(value))));
}

// Puts the rows of x into the cache from `position` on.
Result<void> append_to_cache(ActivationScheme scheme, std::string_view name,
                             const Matrix<double>& x, std::size_t position, Matrix<double>& cache) {
  for (std::size_t t = 0; t < x.rows(); ++t) {
    if constexpr (kFaultSites) {
      std::vector<double> row(x.columns());
      std::ranges::transform(x.row(t), row.begin(),
                             [scheme](double value) { return cached(scheme, value); });
      if (faulty::append_row<double, double>(position + t, x.row(t), row, cache)) continue;
    }
    for (std::size_t i = 0; i < x.columns(); ++i) {
      const double value = cached(scheme, x(t, i));
      if (!std::isfinite(value)) return uncacheable(name, position + t, x(t, i));
      cache(position + t, i) = value;
    }
  }
  return {};
}

// The MoE block; the router reads router_input, which is x.
Result<void> moe_block(ActivationScheme scheme, const Config& config, const LayerWeights& layer,
                       std::size_t layer_index, std::size_t first_position,
                       MatrixView<const double> router_input, MatrixView<const double> x,
                       const ForwardOptions& options, MatrixView<double> y) {
  if (auto ok = check_moe_ffn_forward_layer(config, layer, layer_index, first_position, shape_of(x),
                                            shape_of(y), options);
      !ok) {
    return ok;
  }
  const TraceCall record{options.trace, first_position};
  const std::size_t num_tokens = x.rows;
  const std::size_t k = config.num_experts_per_tok;

  Matrix<double> router_logits(num_tokens, config.num_experts);
  oracle::matmul(layer.router, router_input, scheme, router_logits.view());
  if constexpr (kFaultSites) faulty::round_logits(router_logits.flat());
  record(TracePoint::kRouterLogits, layer_index, router_logits);

  Routing<double> routing{{num_tokens, k}, {num_tokens, k}};
  if (auto ok = choose_experts(router_logits, config.norm_topk_prob, layer_index, first_position,
                               options, routing);
      !ok) {
    return ok;
  }
  if constexpr (kFaultSites) faulty::edit_routing(routing);
  record(TracePoint::kRouterIndex, layer_index, routing.ids);
  record(TracePoint::kRouterWeight, layer_index, routing.weights);

  SlotGrouping grouping = group_slots_by_expert(routing.ids.view(), config.num_experts);
  if constexpr (kFaultSites) faulty::edit_grouping(kHost, config.num_experts, grouping);
  Matrix<double> input(num_tokens * k, config.hidden_size);
  for (std::size_t i = 0; i < grouping.slots.size(); ++i) {
    std::ranges::copy(x.row(grouping.slots[i] / k), input.row(i).begin());
  }
  Matrix<double> gate(num_tokens * k, config.moe_intermediate_size);
  Matrix<double> up(num_tokens * k, config.moe_intermediate_size);
  Matrix<double> inner(num_tokens * k, config.moe_intermediate_size);
  Matrix<double> out(num_tokens * k, config.hidden_size);
  for (const ExpertGroup& group : grouping.experts) {
    const auto rows = [&](Matrix<double>& matrix) {
      return row_range(matrix.view(), group.begin, group.end);
    };
    const auto multiply = [&](const WeightView& gate_proj, const WeightView& up_proj,
                              const WeightView& down_proj) {
      oracle::matmul(gate_proj, rows(input), scheme, rows(gate));
      oracle::matmul(up_proj, rows(input), scheme, rows(up));
      oracle::swiglu(rows(gate), rows(up), rows(inner));
      oracle::matmul(down_proj, rows(inner), scheme, rows(out));
    };
    if constexpr (kFaultSites) {
      faulty::with_expert(kHost, layer, layer_index, group.expert, multiply);
    } else {
      multiply(layer.gate_proj.expert(group.expert), layer.up_proj.expert(group.expert),
               layer.down_proj.expert(group.expert));
    }
  }
  if (options.trace != nullptr) {
    record(TracePoint::kExpertGate, layer_index, in_slot_order(gate, grouping.slots));
    record(TracePoint::kExpertUp, layer_index, in_slot_order(up, grouping.slots));
    record(TracePoint::kExpertSwiglu, layer_index, in_slot_order(inner, grouping.slots));
  }
  const Matrix<double> expert_out = in_slot_order(out, grouping.slots);
  record(TracePoint::kExpertOut, layer_index, expert_out);

  oracle::combine(expert_out.view(), routing.weights.view(), y);
  if constexpr (kFaultSites) faulty::edit_moe_out(y);
  record(TracePoint::kMoeOut, layer_index, MatrixView<const double>(y));
  return {};
}

}  // namespace

Result<void> matvec(ActivationScheme scheme, const WeightView& weight, std::span<const double> x,
                    std::span<double> y) {
  if (auto ok = check_matvec("matvec", weight, x.size(), y.size()); !ok) return ok;
  oracle::matmul(weight, {x.data(), 1, x.size()}, scheme, {y.data(), 1, y.size()});
  return {};
}

Result<void> q4k_matvec(ActivationScheme scheme, std::span<const std::byte> weight,
                        std::size_t rows, std::size_t columns, std::span<const double> x,
                        std::span<double> y) {
  const auto view = check_typed_matvec("q4k_matvec", TensorType::kQ4_K, weight, rows, columns,
                                       x.size(), y.size());
  if (!view) return view.error();
  return matvec(scheme, *view, x, y);
}

Result<void> q6k_gemv(ActivationScheme scheme, std::span<const std::byte> weight, std::size_t rows,
                      std::size_t columns, std::span<const double> x, std::span<double> y) {
  const auto view =
      check_typed_matvec("q6k_gemv", TensorType::kQ6_K, weight, rows, columns, x.size(), y.size());
  if (!view) return view.error();
  return matvec(scheme, *view, x, y);
}

Result<void> expert_swiglu(ActivationScheme scheme, const WeightView& gate_proj,
                           const WeightView& up_proj, const WeightView& down_proj,
                           std::span<const double> x, std::span<double> y) {
  if (auto ok = check_expert_swiglu(gate_proj, up_proj, down_proj, x.size(), y.size()); !ok) {
    return ok;
  }
  const Matrix<double> input(1, x.size(), {x.begin(), x.end()});
  const Matrix<double> gate = matmul(scheme, gate_proj, input);
  const Matrix<double> up = matmul(scheme, up_proj, input);
  Matrix<double> inner(1, gate.columns());
  oracle::swiglu(gate.view(), up.view(), inner.view());
  oracle::matmul(down_proj, inner.view(), scheme, {y.data(), 1, y.size()});
  return {};
}

Result<void> moe_ffn_forward_layer(ActivationScheme scheme, const Config& config,
                                   const LayerWeights& layer, std::size_t layer_index,
                                   std::size_t first_position, MatrixView<const double> x,
                                   const ForwardOptions& options, MatrixView<double> y) {
  return moe_block(scheme, config, layer, layer_index, first_position, x, x, options, y);
}

Result<Matrix<double>> forward_qwen3_moe(ActivationScheme scheme, const Model& model,
                                         const RopeTable& rope_table,
                                         std::span<const std::int32_t> tokens,
                                         KvCache<double>& cache, const ForwardOptions& options) {
  const std::size_t room = cache.capacity() - cache.length();
  const bool wraps = tokens.size() > room && tokens.size() <= cache.capacity();
  if (wraps && fault_seeded("F107", kHost)) cache.rollback(0);
  if (tokens.empty() && fault_seeded("F124", kHost)) tokens = kTokenZero;
  if (auto ok = check_forward(model, rope_table, tokens, cache.length(), cache.capacity(), options);
      !ok) {
    return ok.error();
  }
  const Config& config = model.config();
  const AttentionShape heads = config.attention_shape();
  const std::size_t position = cache.length();
  const float eps = config.rms_norm_eps;
  const TraceCall record{options.trace, position};
  if (options.executed != nullptr) options.executed->clear();

  Matrix<double> hidden(tokens.size(), config.hidden_size);
  embed<double>(model.embed_tokens(), tokens, hidden.view());
  record(TracePoint::kEmbedding, 0, hidden);

  for (std::size_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    const LayerWeights& weights = model.layers()[layer];

    const Matrix<double> attn_norm = rms_norm(hidden, weights.input_layernorm, eps);
    record(TracePoint::kAttnNorm, layer, attn_norm);

    Matrix<double> q = matmul(scheme, weights.q_proj, attn_norm);
    record(TracePoint::kQ, layer, q);
    Matrix<double> k = matmul(scheme, weights.k_proj, attn_norm);
    record(TracePoint::kK, layer, k);
    const Matrix<double> v = matmul(scheme, weights.v_proj, attn_norm);
    record(TracePoint::kV, layer, v);

    const bool skips_norms = fault_seeded("F58", kHost);
    const bool norms_late = fault_seeded("F59", kHost);
    const bool skips_k_norm = skips_norms || norms_late || fault_seeded("F60", kHost) ||
                              (options.trace != nullptr && fault_seeded("F117", kHost));
    if (!skips_norms && !norms_late) q = head_norm(q, weights.q_norm, eps);
    record(TracePoint::kQNorm, layer, q);
    if (!skips_k_norm) k = head_norm(k, weights.k_norm, eps);
    record(TracePoint::kKNorm, layer, k);

    oracle::rope(rope_table, heads.num_attention_heads, position, q.view());
    if (norms_late) q = head_norm(q, weights.q_norm, eps);
    record(TracePoint::kQRope, layer, q);
    if constexpr (kFaultSites) faulty::edit_query(config, q);
    oracle::rope(rope_table, heads.num_key_value_heads, position, k.view());
    if (norms_late) k = head_norm(k, weights.k_norm, eps);
    record(TracePoint::kKRope, layer, k);

    if (auto ok = append_to_cache(scheme, "key", k, position, cache.keys(layer)); !ok) {
      return in_layer(layer, ok.error());
    }
    if (auto ok = append_to_cache(scheme, "value", v, position, cache.values(layer)); !ok) {
      return in_layer(layer, ok.error());
    }
    Matrix<double> attn_heads(tokens.size(), heads.query_size());
    oracle::attention(heads, q.view(), std::as_const(cache).keys(layer).view(),
                      std::as_const(cache).values(layer).view(), position, attn_heads.view());
    record(TracePoint::kAttnHeads, layer, attn_heads);

    const Matrix<double> attn_out = matmul(scheme, weights.o_proj, attn_heads);
    record(TracePoint::kAttnOut, layer, attn_out);
    const bool skips_attention =
        layer + 1 < config.num_hidden_layers && fault_seeded("F121", kHost);
    if (fault_seeded("F69", kHost)) {
      hidden = attn_out;
    } else if (!skips_attention) {
      hidden = add(hidden, attn_out);
    }
    record(TracePoint::kAttnResidual, layer, hidden);

    const Matrix<double> ffn_norm = rms_norm(hidden, weights.post_attention_layernorm, eps);
    record(TracePoint::kFfnNorm, layer, ffn_norm);

    Matrix<double> moe_out(tokens.size(), config.hidden_size);
    const Matrix<double>& router_input = fault_seeded("F39", kHost) ? hidden : ffn_norm;
    if (auto ok = moe_block(scheme, config, weights, layer, position, router_input.view(),
                            ffn_norm.view(), options, moe_out.view());
        !ok) {
      return in_layer(layer, ok.error());
    }
    hidden = fault_seeded("F44", kHost) ? moe_out : add(hidden, moe_out);
    record(TracePoint::kFfnResidual, layer, hidden);
    if (options.executed != nullptr) options.executed->push_back(BackendId::kOracle);
  }

  if (options.logit_rows == LogitRows::kLast) hidden = last_row(hidden);
  const TraceCall record_last{options.trace, position + tokens.size() - hidden.rows()};
  const Matrix<double> output_norm =
      fault_seeded("F51", kHost) ? hidden : rms_norm(hidden, model.norm(), eps);
  record_last(TracePoint::kOutputNorm, 0, output_norm);
  const bool takes_embedding = !config.tie_word_embeddings && fault_seeded("F106", kHost);
  const WeightView& lm_head = takes_embedding ? model.embed_tokens() : model.lm_head();
  Matrix<double> logits = matmul(scheme, lm_head, output_norm);
  if constexpr (kFaultSites) faulty::edit_logits(logits);
  record_last(TracePoint::kLogits, 0, logits);
  if (auto ok = check_finite("logits", std::as_const(logits).view()); !ok) return ok.error();
  cache.advance(tokens.size());
  return logits;
}

}  // namespace refute::oracle
