// The CPU path: float32 with int8 activations, the numerics of kernels/*.h, the steps of
// forward_oracle.cc.
#include <algorithm>
#include <atomic>
#include <mutex>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/arguments.h"
#include "engine/choose_experts.h"
#include "engine/cpu_weights.h"
#include "engine/faulty/experts.h"
#include "engine/faulty/layer.h"
#include "engine/first_largest.h"
#include "engine/forward.h"
#include "engine/moe_slots.h"
#include "kernels/attention.h"
#include "kernels/combine.h"
#include "kernels/cpu/products.h"
#include "kernels/cpu/work.h"
#include "kernels/embed.h"
#include "kernels/faults.h"
#include "kernels/faulty/routing.h"
#include "kernels/quant/half.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/swiglu.h"

namespace refute::cpu {
namespace {

constexpr FaultHost kHost = FaultHost::kCpu;
// Taken where there is no token, by F124.
constexpr std::int32_t kTokenZero[] = {0};

// Room for what an op writes all of. Faults may leave some of it out.
Matrix<float> output(std::size_t rows, std::size_t columns) {
  if constexpr (kFaultSites) return {rows, columns};
  return Matrix<float>::uninitialized(rows, columns);
}

Matrix<float> rms_norm(const Context& context, const Matrix<float>& x,
                       std::span<const float> weight, float epsilon) {
  Matrix<float> y = output(x.rows(), x.columns());
  cpu::rms_norm(context, x.view(), weight, epsilon, y.view());
  return y;
}

// The same on each head of [num_tokens, num_heads * head_dim], in place.
void head_norm(const Context& context, std::span<const float> weight, float epsilon,
               Matrix<float>& x) {
  const MatrixView<float> heads(x.data(), x.size() / weight.size(), weight.size());
  cpu::rms_norm(context, heads, weight, epsilon, heads);
}

// x times a matrix.
Matrix<float> times(const Context& context, const PackedWeights& packed, const WeightView& weight,
                    MatrixView<const float> x) {
  Matrix<float> y = output(x.rows, weight.rows);
  ProductInput input(x);
  const Product product{packed.place(weight), 0, x.rows, y.view()};
  multiply(context, input, {&product, 1});
  return y;
}

// Where a step's weights lie, and those that come after its own.
struct StepWeights {
  const PackedWeights& packed;
  std::span<const PlacedWeight> next;
};

// What is asked of all logits, found by the threads that write them. [num_tokens, vocab_size]
class LogitScan {
 public:
  // Looks at the matrix as it is in each call: its memory may be another by then.
  explicit LogitScan(const Matrix<float>& logits) : logits_(logits) {}

  // Columns [begin, end) of all rows; several threads at once.
  void add(std::size_t begin, std::size_t end) {
    if (begin == end || logits_.rows() == 0) return;
    const auto part = [&](std::size_t row) { return logits_.row(row).subspan(begin, end - begin); };
    for (std::size_t row = 0; row < logits_.rows(); ++row) {
      if (!check_finite("logits", {part(row).data(), 1, end - begin})) finite_ = false;
    }
    if (!finite_) return;
    const auto first = begin + static_cast<std::size_t>(first_largest(part(logits_.rows() - 1)));
    const std::lock_guard lock(mutex_);
    if (!likeliest_ || comes_before(first, *likeliest_)) likeliest_ = first;
  }
  // Of all columns.
  Result<void> check() const {
    if (finite_) return {};
    return check_finite("logits", logits_.view());
  }
  // The first of the largest of the last row. Precondition: check holds.
  std::int32_t likeliest() const { return static_cast<std::int32_t>(*likeliest_); }

 private:
  bool comes_before(std::size_t a, std::size_t b) const {
    const auto row = logits_.row(logits_.rows() - 1);
    return row[a] != row[b] ? row[a] > row[b] : a < b;
  }

  const Matrix<float>& logits_;
  std::atomic<bool> finite_ = true;
  std::mutex mutex_;
  std::optional<std::size_t> likeliest_;  // Guarded by mutex_.
};

// What a layer multiplies first.
std::vector<PlacedWeight> first_weights(const PackedWeights& packed, const LayerWeights& layer) {
  return {packed.place(layer.q_proj), packed.place(layer.k_proj), packed.place(layer.v_proj)};
}

// What is multiplied first after the experts of a layer.
std::vector<PlacedWeight> weights_after(const PackedWeights& packed, const Model& model,
                                        std::size_t layer) {
  if (layer + 1 == model.config().num_hidden_layers) return {packed.place(model.lm_head())};
  return first_weights(packed, model.layers()[layer + 1]);
}

// An Inf in a key would make scores of -Inf, which softmax turns into a weight of 0 without a
// trace.
Result<void> append_to_cache(std::string_view name, const Matrix<float>& x, std::size_t position,
                             Matrix<std::uint16_t>& cache) {
  constexpr std::uint16_t kExponent = 0x7c00;
  for (std::size_t t = 0; t < x.rows(); ++t) {
    if constexpr (kFaultSites) {
      std::vector<std::uint16_t> row(x.columns());
      std::ranges::transform(x.row(t), row.begin(), half_from_float);
      if (faulty::append_row<float, std::uint16_t>(position + t, x.row(t), row, cache)) continue;
    }
    for (std::size_t i = 0; i < x.columns(); ++i) {
      const std::uint16_t half = half_from_float(x(t, i));
      if ((half & kExponent) == kExponent) return uncacheable(name, position + t, x(t, i));
      cache(position + t, i) = half;
    }
  }
  return {};
}

// Slots of one expert in the grouped order, which rows of the input they are, where its results
// begin in `out` of ExpertRows, and its weights.
struct ExpertWork {
  ExpertGroup group;
  IndexRange input_rows;
  std::size_t out_row;
  WeightView gate_proj, up_proj, down_proj;
};

// Rows of the grouped order: [num_slots, moe_intermediate_size]. out [num_slots, hidden_size]: of
// the grouped order or of the slots'.
struct ExpertRows {
  Matrix<float> gate, up, inner, out;
};

// Consecutive groups: their gates and ups at once, then their downs.
void run_experts(const Context& context, const StepWeights& weights,
                 std::span<const ExpertWork> experts, ProductInput& input, ExpertRows& rows) {
  if (experts.empty()) return;
  const PackedWeights& packed = weights.packed;
  const std::size_t first = experts.front().group.begin;
  const std::size_t last = experts.back().group.end;
  std::vector<Product> products;
  const auto add = [&](const WeightView& weight, const IndexRange& x, Matrix<float>& y,
                       std::size_t row) {
    products.push_back(
        {packed.place(weight), x.begin, x.end, row_range(y.view(), row, row + x.end - x.begin)});
  };
  for (const ExpertWork& expert : experts) {
    add(expert.gate_proj, expert.input_rows, rows.gate, expert.group.begin);
    add(expert.up_proj, expert.input_rows, rows.up, expert.group.begin);
  }
  std::vector<PlacedWeight> downs;
  for (const ExpertWork& expert : experts) downs.push_back(packed.place(expert.down_proj));
  multiply(context, input, products, downs);
  cpu::swiglu(context, row_range(rows.gate.view(), first, last),
              row_range(rows.up.view(), first, last), row_range(rows.inner.view(), first, last));
  ProductInput inner(row_range(rows.inner.view(), first, last));
  products.clear();
  for (const ExpertWork& expert : experts) {
    add(expert.down_proj, {expert.group.begin - first, expert.group.end - first}, rows.out,
        expert.out_row);
  }
  multiply(context, inner, products, weights.next);
}

// The MoE block; the router reads router_input, which is x.
Result<void> moe_block(const Context& context, const Config& config, const StepWeights& weights,
                       const LayerWeights& layer, std::size_t layer_index,
                       std::size_t first_position, MatrixView<const float> router_input,
                       MatrixView<const float> x, const ForwardOptions& options,
                       MatrixView<float> y) {
  if (auto ok = check_moe_ffn_forward_layer(config, layer, layer_index, first_position, shape_of(x),
                                            shape_of(y), options);
      !ok) {
    return ok;
  }
  const TraceCall record{options.trace, first_position};
  const std::size_t num_tokens = x.rows;
  const std::size_t k = config.num_experts_per_tok;

  Matrix<float> router_logits = times(context, weights.packed, layer.router, router_input);
  if constexpr (kFaultSites) faulty::round_logits(router_logits.flat());
  record(TracePoint::kRouterLogits, layer_index, router_logits);

  Routing<float> routing{{num_tokens, k}, {num_tokens, k}};
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
  std::vector<std::size_t> tokens(grouping.slots.size());
  std::ranges::transform(grouping.slots, tokens.begin(),
                         [&](std::size_t slot) { return slot / k; });
  ProductInput token_input(x);
  ProductInput slot_input(token_input, tokens);
  // Where each expert has one slot, as with one token, results need not be put in order later.
  const bool is_in_slot_order = std::ranges::all_of(
      grouping.experts, [](const ExpertGroup& group) { return group.end - group.begin == 1; });
  const auto out_row = [&](const ExpertGroup& group) {
    return is_in_slot_order ? grouping.slots[group.begin] : group.begin;
  };
  // Then one token is the row of all its slots, to be arranged once.
  const bool is_one_row = is_in_slot_order && num_tokens == 1;
  ProductInput& input = is_one_row ? token_input : slot_input;
  const auto input_rows = [&](const ExpertGroup& group) {
    return is_one_row ? IndexRange{0, 1} : IndexRange{group.begin, group.end};
  };
  const std::size_t inner_size = config.moe_intermediate_size;
  ExpertRows rows{output(num_tokens * k, inner_size), output(num_tokens * k, inner_size),
                  output(num_tokens * k, inner_size), output(num_tokens * k, config.hidden_size)};
  if constexpr (kFaultSites) {
    // What a fault puts in place of an expert's weights lives for this call only.
    for (const ExpertGroup& group : grouping.experts) {
      faulty::with_expert(
          kHost, layer, layer_index, group.expert,
          [&](const WeightView& gate_proj, const WeightView& up_proj, const WeightView& down_proj) {
            const ExpertWork work{group,     input_rows(group), out_row(group),
                                  gate_proj, up_proj,           down_proj};
            run_experts(context, weights, {&work, 1}, input, rows);
          });
    }
  } else {
    std::vector<ExpertWork> experts;
    for (const ExpertGroup& group : grouping.experts) {
      experts.push_back({group, input_rows(group), out_row(group),
                         layer.gate_proj.expert(group.expert), layer.up_proj.expert(group.expert),
                         layer.down_proj.expert(group.expert)});
    }
    run_experts(context, weights, experts, input, rows);
  }
  if (options.trace != nullptr) {
    record(TracePoint::kExpertGate, layer_index, in_slot_order(rows.gate, grouping.slots));
    record(TracePoint::kExpertUp, layer_index, in_slot_order(rows.up, grouping.slots));
    record(TracePoint::kExpertSwiglu, layer_index, in_slot_order(rows.inner, grouping.slots));
  }
  const Matrix<float> expert_out =
      is_in_slot_order ? std::move(rows.out) : in_slot_order(rows.out, grouping.slots);
  record(TracePoint::kExpertOut, layer_index, expert_out);

  cpu::combine(context, expert_out.view(), routing.weights.view(), y);
  if constexpr (kFaultSites) faulty::edit_moe_out(y);
  record(TracePoint::kMoeOut, layer_index, MatrixView<const float>(y));
  return {};
}

}  // namespace

Result<void> matvec(const Context& context, const WeightView& weight, std::span<const float> x,
                    std::span<float> y) {
  if (auto ok = check_matvec("matvec", weight, x.size(), y.size()); !ok) return ok;
  cpu::matmul(context, weight, {x.data(), 1, x.size()}, {y.data(), 1, y.size()});
  return {};
}

Result<void> q4k_matvec(const Context& context, std::span<const std::byte> weight, std::size_t rows,
                        std::size_t columns, std::span<const float> x, std::span<float> y) {
  const auto view = check_typed_matvec("q4k_matvec", TensorType::kQ4_K, weight, rows, columns,
                                       x.size(), y.size());
  if (!view) return view.error();
  return matvec(context, *view, x, y);
}

Result<void> q6k_gemv(const Context& context, std::span<const std::byte> weight, std::size_t rows,
                      std::size_t columns, std::span<const float> x, std::span<float> y) {
  const auto view =
      check_typed_matvec("q6k_gemv", TensorType::kQ6_K, weight, rows, columns, x.size(), y.size());
  if (!view) return view.error();
  return matvec(context, *view, x, y);
}

Result<void> expert_swiglu(const Context& context, const WeightView& gate_proj,
                           const WeightView& up_proj, const WeightView& down_proj,
                           std::span<const float> x, std::span<float> y) {
  if (auto ok = check_expert_swiglu(gate_proj, up_proj, down_proj, x.size(), y.size()); !ok) {
    return ok;
  }
  Matrix<float> gate(1, gate_proj.rows);
  Matrix<float> up(1, up_proj.rows);
  Matrix<float> inner(1, gate_proj.rows);
  ProductInput input(MatrixView<const float>(x.data(), 1, x.size()));
  const Product products[] = {{{gate_proj}, 0, 1, gate.view()}, {{up_proj}, 0, 1, up.view()}};
  multiply(context, input, products);
  cpu::swiglu(context, gate.view(), up.view(), inner.view());
  cpu::matmul(context, down_proj, inner.view(), {y.data(), 1, y.size()});
  return {};
}

Result<void> moe_ffn_forward_layer(const Context& context, const Config& config,
                                   const LayerWeights& layer, std::size_t layer_index,
                                   std::size_t first_position, MatrixView<const float> x,
                                   const ForwardOptions& options, MatrixView<float> y) {
  const PackedWeights none;
  return moe_block(context, config, {none, {}}, layer, layer_index, first_position, x, x, options,
                   y);
}

Result<Matrix<float>> forward_qwen3_moe(const Context& context, const Model& model,
                                        const PackedWeights& packed, const RopeTable& rope_table,
                                        std::span<const std::int32_t> tokens,
                                        KvCache<std::uint16_t>& cache,
                                        const ForwardOptions& options, std::int32_t* likeliest) {
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

  Matrix<float> hidden(tokens.size(), config.hidden_size);
  embed<float>(model.embed_tokens(), tokens, hidden.view());
  record(TracePoint::kEmbedding, 0, hidden);

  for (std::size_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    const LayerWeights& weights = model.layers()[layer];

    const Matrix<float> attn_norm = rms_norm(context, hidden, weights.input_layernorm, eps);
    record(TracePoint::kAttnNorm, layer, attn_norm);

    Matrix<float> q = output(tokens.size(), weights.q_proj.rows);
    Matrix<float> k = output(tokens.size(), weights.k_proj.rows);
    Matrix<float> v = output(tokens.size(), weights.v_proj.rows);
    ProductInput attn_input(attn_norm.view());
    const Product attn_products[] = {{packed.place(weights.q_proj), 0, tokens.size(), q.view()},
                                     {packed.place(weights.k_proj), 0, tokens.size(), k.view()},
                                     {packed.place(weights.v_proj), 0, tokens.size(), v.view()}};
    const PlacedWeight o_proj = packed.place(weights.o_proj);
    multiply(context, attn_input, attn_products, {&o_proj, 1});
    record(TracePoint::kQ, layer, q);
    record(TracePoint::kK, layer, k);
    record(TracePoint::kV, layer, v);

    const bool skips_norms = fault_seeded("F58", kHost);
    const bool norms_late = fault_seeded("F59", kHost);
    const bool skips_k_norm = skips_norms || norms_late || fault_seeded("F60", kHost) ||
                              (options.trace != nullptr && fault_seeded("F117", kHost));
    if (!skips_norms && !norms_late) head_norm(context, weights.q_norm, eps, q);
    record(TracePoint::kQNorm, layer, q);
    if (!skips_k_norm) head_norm(context, weights.k_norm, eps, k);
    record(TracePoint::kKNorm, layer, k);

    cpu::rope(context, rope_table, heads.num_attention_heads, position, q.view());
    if (norms_late) head_norm(context, weights.q_norm, eps, q);
    record(TracePoint::kQRope, layer, q);
    if constexpr (kFaultSites) faulty::edit_query(config, q);
    cpu::rope(context, rope_table, heads.num_key_value_heads, position, k.view());
    if (norms_late) head_norm(context, weights.k_norm, eps, k);
    record(TracePoint::kKRope, layer, k);

    if (auto ok = append_to_cache("key", k, position, cache.keys(layer)); !ok) {
      return in_layer(layer, ok.error());
    }
    if (auto ok = append_to_cache("value", v, position, cache.values(layer)); !ok) {
      return in_layer(layer, ok.error());
    }
    Matrix<float> attn_heads = output(tokens.size(), heads.query_size());
    cpu::attention(context, heads, q.view(), std::as_const(cache).keys(layer).view(),
                   std::as_const(cache).values(layer).view(), position, attn_heads.view());
    record(TracePoint::kAttnHeads, layer, attn_heads);

    const Matrix<float> attn_out = times(context, packed, weights.o_proj, attn_heads.view());
    record(TracePoint::kAttnOut, layer, attn_out);
    const bool skips_attention =
        layer + 1 < config.num_hidden_layers && fault_seeded("F121", kHost);
    if (fault_seeded("F69", kHost)) {
      hidden = attn_out;
    } else if (!skips_attention) {
      cpu::add(context, hidden.view(), attn_out.view(), hidden.view());
    }
    record(TracePoint::kAttnResidual, layer, hidden);

    const Matrix<float> ffn_norm = rms_norm(context, hidden, weights.post_attention_layernorm, eps);
    record(TracePoint::kFfnNorm, layer, ffn_norm);

    Matrix<float> moe_out = output(tokens.size(), config.hidden_size);
    const bool falls_back = layer == 0 && fault_seeded("F87", kHost);
    const Matrix<float>& router_input = fault_seeded("F39", kHost) ? hidden : ffn_norm;
    const std::vector<PlacedWeight> next = weights_after(packed, model, layer);
    const Result<void> moe =
        falls_back ? faulty::moe_on_oracle(config, weights, layer, position, ffn_norm.view(),
                                           options, moe_out.view())
                   : moe_block(context, config, {packed, next}, weights, layer, position,
                               router_input.view(), ffn_norm.view(), options, moe_out.view());
    if (!moe) return in_layer(layer, moe.error());
    if (fault_seeded("F44", kHost)) {
      hidden = moe_out;
    } else {
      cpu::add(context, hidden.view(), moe_out.view(), hidden.view());
    }
    record(TracePoint::kFfnResidual, layer, hidden);
    if (options.executed != nullptr)
      options.executed->push_back(falls_back ? BackendId::kOracle : BackendId::kCpu);
  }

  if (options.logit_rows == LogitRows::kLast) hidden = last_row(hidden);
  const TraceCall record_last{options.trace, position + tokens.size() - hidden.rows()};
  const Matrix<float> output_norm =
      fault_seeded("F51", kHost) ? hidden : rms_norm(context, hidden, model.norm(), eps);
  record_last(TracePoint::kOutputNorm, 0, output_norm);
  const bool takes_embedding = !config.tie_word_embeddings && fault_seeded("F106", kHost);
  const WeightView& lm_head = takes_embedding ? model.embed_tokens() : model.lm_head();
  Matrix<float> logits = output(output_norm.rows(), lm_head.rows);
  LogitScan scan(logits);
  ProductInput output_input(output_norm.view());
  const Product head{packed.place(lm_head), 0, output_norm.rows(), logits.view()};
  const std::vector<PlacedWeight> next = first_weights(packed, model.layers().front());
  multiply(context, output_input, {&head, 1}, next,
           [&](const Product&, std::size_t begin, std::size_t end) {
             if constexpr (!kFaultSites) scan.add(begin, end);
           });
  if constexpr (kFaultSites) {
    faulty::edit_logits(logits);
    scan.add(0, logits.columns());
  }
  record_last(TracePoint::kLogits, 0, logits);
  if (auto ok = scan.check(); !ok) return ok.error();
  if (likeliest != nullptr) *likeliest = scan.likeliest();
  cache.advance(tokens.size());
  return logits;
}

}  // namespace refute::cpu
