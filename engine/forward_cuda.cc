// The steps of forward_cpu.cc with kernels of kernels/cuda, one an op.
#include "engine/forward_cuda.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "engine/arguments.h"
#include "engine/faulty/device.h"
#include "kernels/cuda/faulty.h"
#include "kernels/faults.h"
#include "kernels/quant/half.h"
#include "kernels/route.h"

namespace refute::cuda {
namespace {

constexpr FaultHost kHost = FaultHost::kCuda;

// Inputs and outputs of a public function in device memory, one allocation.
class Staging {
 public:
  static Result<Staging> allocate(std::size_t bytes) {
    auto memory = DeviceBuffer<std::uint8_t>::allocate(bytes, "operands");
    if (!memory) return memory.error();
    return Staging(*std::move(memory));
  }
  Arena arena() const { return Arena(memory_.data()); }

 private:
  explicit Staging(DeviceBuffer<std::uint8_t> memory) : memory_(std::move(memory)) {}
  DeviceBuffer<std::uint8_t> memory_;
};

struct MatmulBuffers {
  float* x = nullptr;
  DeviceActivations activations;
  float* y = nullptr;

  static MatmulBuffers take(Arena& arena, std::size_t num_tokens, std::size_t columns,
                            std::size_t rows) {
    MatmulBuffers buffers;
    buffers.x = arena.take<float>(num_tokens * columns);
    buffers.activations = arena.take_activations(num_tokens, columns);
    buffers.y = arena.take<float>(num_tokens * rows);
    return buffers;
  }
};

// The same experts for every slot.
void matmul_experts(const PlainCall& call, const DeviceMatrix& weight, const float* x,
                    const DeviceActivations& activations, std::size_t slots_per_row, float* y) {
  const MoeBuffers& moe = call.buffers.moe;
  const std::size_t num_slots = call.num_tokens * call.config.num_experts_per_tok;
  if (weight.is_quantized()) {
    matmul_slots_quantized(call.context, weight, activations, slots_per_row, moe.slots, num_slots,
                           call.config.num_experts, y);
  } else {
    matmul_slots_float(call.context, weight, x, slots_per_row, moe.ids, num_slots, y);
  }
}

// The error of a row of router logits that is not finite: the one that route gives on the host.
Result<void> routing_error(const PlainCall& call, std::size_t index) {
  DecodeState state;
  call.context.to_host(call.state, 1, &state);
  if (state.router_error == kNoError) return {};
  const Config& config = call.config;
  Matrix<float> logits(call.num_tokens, config.num_experts);
  call.context.to_host(call.buffers.moe.router_logits, logits.size(), logits.data());
  std::vector<std::int32_t> ids(config.num_experts_per_tok);
  std::vector<float> weights(config.num_experts_per_tok);
  for (std::size_t t = 0; t < call.num_tokens; ++t) {
    auto ok = refute::route<float>(std::as_const(logits).row(t), config.norm_topk_prob,
                                   std::span(ids), std::span(weights));
    if (!ok) return ok;
  }
  return Error{ErrorKind::kNonFinite, "route", "finite logits in layer " + std::to_string(index),
               "a flag of the device and finite logits"};
}

// What the rows of a call have to hold for the cache: the error of the first element that does not.
Result<void> check_cacheable(const PlainCall& call, std::string_view name, const float* rows,
                             std::size_t columns) {
  constexpr std::uint16_t kExponent = 0x7c00;
  Matrix<float> x(call.num_tokens, columns);
  call.context.to_host(rows, x.size(), x.data());
  for (std::size_t t = 0; t < x.rows(); ++t) {
    for (std::size_t i = 0; i < x.columns(); ++i) {
      if ((half_from_float(x(t, i)) & kExponent) == kExponent) {
        return uncacheable(name, call.first_position + t, static_cast<double>(x(t, i)));
      }
    }
  }
  return {};
}

Result<void> cache_error(const PlainCall& call, std::size_t columns) {
  DecodeState state;
  call.context.to_host(call.state, 1, &state);
  if (state.cache_failed == 0) return {};
  if (auto ok = check_cacheable(call, "key", call.buffers.k, columns); !ok) return ok;
  if (auto ok = check_cacheable(call, "value", call.buffers.v, columns); !ok) return ok;
  return Error{ErrorKind::kNonFinite, "cache", "numbers that float16 holds",
               "a flag of the device and such numbers"};
}

// The MoE block on x [num_tokens, hidden_size], quantized in buffers.moe.input where a weight needs
// it, to y. The router reads router_input, which is x.
Result<void> run_moe(const PlainCall& call, const LayerWeights& weights, const DeviceLayer& layer,
                     std::size_t index, const float* router_input, const float* x, float* y) {
  const Context& context = call.context;
  const Config& config = call.config;
  const MoeBuffers& moe = call.buffers.moe;
  const std::size_t num_tokens = call.num_tokens;
  const std::size_t k = config.num_experts_per_tok;
  const std::size_t inner_size = config.moe_intermediate_size;
  const std::size_t num_slots = num_tokens * k;

  if constexpr (kFaultSites) {
    const ForwardOptions options{.trace = call.trace.sink(), .forced_routes = call.forced_routes};
    const auto done = refute::faulty::moe(context, config, weights, index, call.first_position,
                                          num_tokens, x, options, y);
    if (!done) return done.error();
    if (*done) return {};
  }
  matmul(context, weights.router, layer.router, router_input, num_tokens, moe.input,
         moe.router_logits);
  call.trace(TracePoint::kRouterLogits, index, moe.router_logits, num_tokens, config.num_experts);

  const std::int32_t* forced = nullptr;
  if (call.forced_routes != nullptr) {
    const std::size_t row = call.first_position - call.forced_routes->first_position;
    const Matrix<std::int32_t>& ids = call.forced_routes->ids[index];
    context.to_device(ids.data() + row * k, num_slots, moe.forced);
    forced = moe.forced;
  }
  route(context, moe.router_logits, num_tokens, config.num_experts, k, config.norm_topk_prob,
        forced, index, moe.ids, moe.weights, &call.state->router_error);
  if (call.check_layers) {
    if (auto ok = routing_error(call, index); !ok) return ok;
  }
  call.trace(TracePoint::kRouterIndex, index, moe.ids, num_tokens, k);
  call.trace(TracePoint::kRouterWeight, index, moe.weights, num_tokens, k);

  group_slots(context, moe.ids, num_slots, config.num_experts, moe.slots);
  if (layer.gate_proj.is_quantized() || layer.up_proj.is_quantized()) {
    quantize_activations(context, x, num_tokens, config.hidden_size, moe.input);
  }
  matmul_experts(call, layer.gate_proj, x, moe.input, k, moe.gate);
  matmul_experts(call, layer.up_proj, x, moe.input, k, moe.up);
  swiglu(context, moe.gate, moe.up, num_slots * inner_size, moe.swiglu);
  if (layer.down_proj.is_quantized()) {
    quantize_activations(context, moe.swiglu, num_slots, inner_size, moe.inner);
  }
  matmul_experts(call, layer.down_proj, moe.swiglu, moe.inner, 1, moe.out);
  call.trace(TracePoint::kExpertGate, index, moe.gate, num_slots, inner_size);
  call.trace(TracePoint::kExpertUp, index, moe.up, num_slots, inner_size);
  call.trace(TracePoint::kExpertSwiglu, index, moe.swiglu, num_slots, inner_size);
  call.trace(TracePoint::kExpertOut, index, moe.out, num_slots, config.hidden_size);

  if (k > 2 && fault_seeded("F82", kHost)) {
    if constexpr (kFaultSites) {
      faulty::combine_with_atomics(context, moe.out, moe.weights, num_tokens, k, config.hidden_size,
                                   y);
    }
  } else {
    combine(context, moe.out, moe.weights, num_tokens, k, config.hidden_size, y);
  }
  call.trace(TracePoint::kMoeOut, index, y, num_tokens, config.hidden_size);
  return {};
}

}  // namespace

void norm_rows(const Context& context, const float* x, const float* weight, std::size_t num_rows,
               std::size_t size, float epsilon, float* y) {
  if constexpr (kFaultSites) {
    if (refute::faulty::rms_norm(context, x, weight, num_rows, size, epsilon, y)) return;
  }
  rms_norm(context, x, weight, num_rows, size, epsilon, y);
}

void matmul(const Context& context, [[maybe_unused]] const WeightView& on_host,
            const DeviceMatrix& weight, const float* x, std::size_t num_tokens,
            const DeviceActivations& activations, float* y) {
  if constexpr (kFaultSites) {
    if (refute::faulty::matmul(context, on_host, x, num_tokens, y)) return;
  }
  if (!weight.is_quantized()) return matmul_float(context, weight, x, num_tokens, y);
  quantize_activations(context, x, num_tokens, weight.columns, activations);
  matmul_quantized(context, weight, activations, num_tokens, y);
}

Result<void> run_plain_layer(const PlainCall& call, const LayerWeights& weights,
                             const DeviceLayer& layer, std::size_t index,
                             const PlainCache& sequence) {
  const Context& context = call.context;
  const Config& config = call.config;
  const CallBuffers& b = call.buffers;
  const DeviceTrace& trace = call.trace;
  const AttentionShape heads = config.attention_shape();
  const std::size_t num_tokens = call.num_tokens;
  const std::size_t hidden_size = config.hidden_size;
  const std::size_t query_size = heads.query_size();
  const std::size_t key_value_size = heads.key_value_size();
  const float eps = config.rms_norm_eps;
  const std::int32_t* const position = &call.state->position;
  const auto head_norm = [&](float* x, const float* weight, std::size_t num_heads) {
    norm_rows(context, x, weight, num_tokens * num_heads, heads.head_dim, eps, x);
  };
  const auto turn = [&](float* x, std::size_t num_heads) {
    if constexpr (kFaultSites) {
      if (refute::faulty::rope(context, *sequence.rope_table, call.first_position, num_tokens,
                               num_heads, x)) {
        return;
      }
    }
    rope(context, sequence.cosines, sequence.sines, position, num_tokens, num_heads, heads.head_dim,
         x);
  };
  const auto append = [&](const float* x, std::uint16_t* cache) {
    if constexpr (kFaultSites) {
      if (refute::faulty::append_to_cache(context, x, call.first_position, num_tokens,
                                          key_value_size, cache)) {
        return;
      }
    }
    append_to_cache(context, x, call.state, num_tokens, key_value_size, cache);
  };
  const auto attend = [&] {
    if constexpr (kFaultSites) {
      if (refute::faulty::attention(context, heads, b.q, sequence.cache.k, sequence.cache.v,
                                    call.first_position, num_tokens, b.heads)) {
        return;
      }
    }
    attention(context, heads, b.q, sequence.cache.k, sequence.cache.v, position, num_tokens,
              b.heads);
  };
  const auto replace_hidden = [&](const float* by) {
    CUDA_CHECK(cudaMemcpyAsync(b.hidden, by, num_tokens * hidden_size * sizeof(float),
                               cudaMemcpyDeviceToDevice, context.stream()));
  };

  norm_rows(context, b.hidden, layer.input_layernorm, num_tokens, hidden_size, eps, b.norm);
  trace(TracePoint::kAttnNorm, index, b.norm, num_tokens, hidden_size);

  matmul(context, weights.q_proj, layer.q_proj, b.norm, num_tokens, b.norm_activations, b.q);
  trace(TracePoint::kQ, index, b.q, num_tokens, query_size);
  matmul(context, weights.k_proj, layer.k_proj, b.norm, num_tokens, b.norm_activations, b.k);
  trace(TracePoint::kK, index, b.k, num_tokens, key_value_size);
  matmul(context, weights.v_proj, layer.v_proj, b.norm, num_tokens, b.norm_activations, b.v);
  trace(TracePoint::kV, index, b.v, num_tokens, key_value_size);

  const bool skips_norms = fault_seeded("F58", kHost);
  const bool norms_late = fault_seeded("F59", kHost);
  const bool skips_k_norm = skips_norms || norms_late || fault_seeded("F60", kHost) ||
                            (trace.is_on() && fault_seeded("F117", kHost));
  if (!skips_norms && !norms_late) head_norm(b.q, layer.q_norm, heads.num_attention_heads);
  trace(TracePoint::kQNorm, index, b.q, num_tokens, query_size);
  if (!skips_k_norm) head_norm(b.k, layer.k_norm, heads.num_key_value_heads);
  trace(TracePoint::kKNorm, index, b.k, num_tokens, key_value_size);

  turn(b.q, heads.num_attention_heads);
  if (norms_late) head_norm(b.q, layer.q_norm, heads.num_attention_heads);
  trace(TracePoint::kQRope, index, b.q, num_tokens, query_size);
  if constexpr (kFaultSites) {
    refute::faulty::edit_query_on_device(context, config, num_tokens, b.q);
  }
  turn(b.k, heads.num_key_value_heads);
  if (norms_late) head_norm(b.k, layer.k_norm, heads.num_key_value_heads);
  trace(TracePoint::kKRope, index, b.k, num_tokens, key_value_size);

  append(b.k, sequence.cache.k);
  append(b.v, sequence.cache.v);
  if (call.check_layers) {
    if (auto ok = cache_error(call, key_value_size); !ok) return in_layer(index, ok.error());
  }
  attend();
  trace(TracePoint::kAttnHeads, index, b.heads, num_tokens, query_size);

  matmul(context, weights.o_proj, layer.o_proj, b.heads, num_tokens, b.heads_activations,
         b.attn_out);
  trace(TracePoint::kAttnOut, index, b.attn_out, num_tokens, hidden_size);
  const bool skips_attention = index + 1 < config.num_hidden_layers && fault_seeded("F121", kHost);
  if (fault_seeded("F69", kHost)) {
    replace_hidden(b.attn_out);
  } else if (!skips_attention) {
    add(context, b.hidden, b.attn_out, num_tokens * hidden_size, b.hidden);
  }
  trace(TracePoint::kAttnResidual, index, b.hidden, num_tokens, hidden_size);

  norm_rows(context, b.hidden, layer.post_attention_layernorm, num_tokens, hidden_size, eps,
            b.norm);
  trace(TracePoint::kFfnNorm, index, b.norm, num_tokens, hidden_size);

  const float* const router_input = fault_seeded("F39", kHost) ? b.hidden : b.norm;
  if (auto ok = run_moe(call, weights, layer, index, router_input, b.norm, b.moe_out); !ok) {
    return in_layer(index, ok.error());
  }
  if (fault_seeded("F44", kHost)) {
    replace_hidden(b.moe_out);
  } else {
    add(context, b.hidden, b.moe_out, num_tokens * hidden_size, b.hidden);
  }
  trace(TracePoint::kFfnResidual, index, b.hidden, num_tokens, hidden_size);
  return {};
}

Result<void> matmul_host(const Context& context, const WeightView& weight,
                         MatrixView<const float> x, MatrixView<float> y) {
  CHECK(x.columns == weight.columns && y.rows == x.rows && y.columns == weight.rows);
  WeightUpload upload;
  const std::size_t number = upload.add(weight);
  auto weights = upload.run(context, "weight");
  if (!weights) return weights.error();
  Arena count;
  MatmulBuffers::take(count, x.rows, x.columns, y.columns);
  auto staging = Staging::allocate(count.used());
  if (!staging) return staging.error();
  Arena arena = staging->arena();
  const auto buffers = MatmulBuffers::take(arena, x.rows, x.columns, y.columns);
  context.to_device(x.data, x.size(), buffers.x);
  matmul(context, weight, weights->matrix(number), buffers.x, x.rows, buffers.activations,
         buffers.y);
  context.to_host(buffers.y, y.size(), y.data);
  return {};
}

Result<void> matvec(const Context& context, const WeightView& weight, std::span<const float> x,
                    std::span<float> y) {
  if (auto ok = check_matvec("matvec", weight, x.size(), y.size()); !ok) return ok;
  return matmul_host(context, weight, {x.data(), 1, x.size()}, {y.data(), 1, y.size()});
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
  WeightUpload upload;
  const std::size_t gate = upload.add(gate_proj);
  const std::size_t up = upload.add(up_proj);
  const std::size_t down = upload.add(down_proj);
  auto weights = upload.run(context, "expert");
  if (!weights) return weights.error();

  struct Buffers {
    MatmulBuffers outer, inner;
    float* up;
  };
  const auto take = [&](Arena& arena) {
    return Buffers{MatmulBuffers::take(arena, 1, x.size(), gate_proj.rows),
                   MatmulBuffers::take(arena, 1, gate_proj.rows, y.size()),
                   arena.take<float>(gate_proj.rows)};
  };
  Arena count;
  take(count);
  auto staging = Staging::allocate(count.used());
  if (!staging) return staging.error();
  Arena arena = staging->arena();
  const Buffers b = take(arena);
  context.to_device(x.data(), x.size(), b.outer.x);
  matmul(context, gate_proj, weights->matrix(gate), b.outer.x, 1, b.outer.activations, b.outer.y);
  matmul(context, up_proj, weights->matrix(up), b.outer.x, 1, b.outer.activations, b.up);
  bool done = false;
  if constexpr (kFaultSites) {
    done = refute::faulty::swiglu(context, b.outer.y, b.up, 1, gate_proj.rows, b.inner.x);
  }
  if (!done) swiglu(context, b.outer.y, b.up, gate_proj.rows, b.inner.x);
  matmul(context, down_proj, weights->matrix(down), b.inner.x, 1, b.inner.activations, b.inner.y);
  context.to_host(b.inner.y, y.size(), y.data());
  return {};
}

Result<void> moe_ffn_forward_layer(const Context& context, const Config& config,
                                   const LayerWeights& layer, std::size_t layer_index,
                                   std::size_t first_position, MatrixView<const float> x,
                                   const ForwardOptions& options, MatrixView<float> y) {
  if (auto ok = check_moe_ffn_forward_layer(config, layer, layer_index, first_position, shape_of(x),
                                            shape_of(y), options);
      !ok) {
    return ok;
  }
  WeightUpload upload;
  const std::size_t router = upload.add(layer.router);
  const std::size_t gate = upload.add(layer.gate_proj);
  const std::size_t up = upload.add(layer.up_proj);
  const std::size_t down = upload.add(layer.down_proj);
  auto weights = upload.run(context, "weights of a MoE block");
  if (!weights) return weights.error();
  DeviceLayer device_layer;
  device_layer.router = weights->matrix(router);
  device_layer.gate_proj = weights->matrix(gate);
  device_layer.up_proj = weights->matrix(up);
  device_layer.down_proj = weights->matrix(down);

  CallBuffers buffers;
  DecodeState* state = nullptr;
  const auto take = [&](Arena& arena) {
    buffers.norm = arena.take<float>(x.size());
    buffers.moe_out = arena.take<float>(x.size());
    buffers.moe = MoeBuffers::take(arena, config, x.rows);
    state = arena.take<DecodeState>(1);
  };
  Arena count;
  take(count);
  auto staging = Staging::allocate(count.used());
  if (!staging) return staging.error();
  Arena arena = staging->arena();
  take(arena);
  const DecodeState fresh;
  context.to_device(&fresh, 1, state);
  context.to_device(x.data, x.size(), buffers.norm);
  const PlainCall call{context,
                       config,
                       x.rows,
                       first_position,
                       buffers,
                       state,
                       options.forced_routes,
                       DeviceTrace(context, options.trace, first_position),
                       true};
  if (auto ok = run_moe(call, layer, device_layer, layer_index, buffers.norm, buffers.norm,
                        buffers.moe_out);
      !ok) {
    return ok;
  }
  context.to_host(buffers.moe_out, y.size(), y.data);
  return {};
}

}  // namespace refute::cuda
