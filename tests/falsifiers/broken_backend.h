// A backend with a fault: delegates to a real one and replaces single ops, so that tests can show a
// falsifier refuting what it claims to catch. Functions made of ops use the replaced ones.
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/backend.h"
#include "engine/trace.h"
#include "falsifiers/routing_checks.h"

namespace refute {

class BrokenBackend : public Backend {
 public:
  using Values = Result<Matrix<double>>;

  explicit BrokenBackend(ActivationScheme scheme = ActivationScheme::kEmulatedInt8)
      : real_(make_oracle_backend(scheme)) {}

  // Each replaces an op when set; `real` computes it right.
  std::function<Values(const Backend& real, const WeightView&, std::span<const std::int32_t>)>
      embed_fault;
  std::function<Values(const Backend& real, MatrixView<const double>, std::span<const float>,
                       float)>
      rms_norm_fault;
  std::function<Values(const Backend& real, const WeightView&, MatrixView<const double>)>
      matmul_fault;
  std::function<Values(const Backend& real, const RopeTable&, std::size_t, std::size_t,
                       MatrixView<const double>)>
      rope_fault;
  std::function<Values(const AttentionShape&, MatrixView<const double>, MatrixView<const double>,
                       MatrixView<const double>, std::size_t)>
      attention_fault;
  std::function<Result<Routing<double>>(const Backend& real, MatrixView<const double>, std::size_t,
                                        bool)>
      route_fault;
  std::function<Values(const Backend& real, MatrixView<const double>, MatrixView<const double>)>
      swiglu_fault;
  std::function<Values(const Backend& real, MatrixView<const double>, MatrixView<const double>)>
      combine_fault;
  // Changes the arguments or results of whole functions.
  std::function<Result<void>(const Backend& real, const WeightView&, std::span<const double>,
                             std::span<double>)>
      matvec_fault;
  std::function<void(std::span<double> y)> expert_fault;
  std::function<void(Matrix<std::int32_t>& ids)> expert_id_fault;  // After tracing, before use.
  std::function<void(MatrixView<double> y)> moe_fault;
  std::function<void(MatrixView<double> y)> moe_entry_fault;  // Before any check.
  bool moe_hides_errors = false;
  bool clamps_capacity = false;

  BackendId id() const override { return real_->id(); }
  std::string description() const override { return "broken " + real_->description(); }

  Result<std::unique_ptr<Session>> open_session(const Model& model,
                                                std::size_t capacity) const override {
    const std::size_t most = model.config().max_position_embeddings;
    return real_->open_session(model, clamps_capacity ? std::min(capacity, most) : capacity);
  }
  Values embed(const WeightView& weight, std::span<const std::int32_t> tokens) const override {
    return embed_fault ? embed_fault(*real_, weight, tokens) : real_->embed(weight, tokens);
  }
  Values rms_norm(MatrixView<const double> x, std::span<const float> weight,
                  float epsilon) const override {
    return rms_norm_fault ? rms_norm_fault(*real_, x, weight, epsilon)
                          : real_->rms_norm(x, weight, epsilon);
  }
  Values matmul(const WeightView& weight, MatrixView<const double> x) const override {
    auto right = real_->matmul(weight, x);
    return right && matmul_fault ? matmul_fault(*real_, weight, x) : right;
  }
  Values rope(const RopeTable& table, std::size_t num_heads, std::size_t first_position,
              MatrixView<const double> x) const override {
    return rope_fault ? rope_fault(*real_, table, num_heads, first_position, x)
                      : real_->rope(table, num_heads, first_position, x);
  }
  Values attention(const AttentionShape& shape, MatrixView<const double> q,
                   MatrixView<const double> k, MatrixView<const double> v,
                   std::size_t first_position) const override {
    return attention_fault ? attention_fault(shape, q, k, v, first_position)
                           : real_->attention(shape, q, k, v, first_position);
  }
  Result<Routing<double>> route(MatrixView<const double> logits, std::size_t k,
                                bool norm_topk_prob) const override {
    return route_fault ? route_fault(*real_, logits, k, norm_topk_prob)
                       : real_->route(logits, k, norm_topk_prob);
  }
  Values swiglu(MatrixView<const double> gate, MatrixView<const double> up) const override {
    auto right = real_->swiglu(gate, up);
    return right && swiglu_fault ? swiglu_fault(*real_, gate, up) : right;
  }
  Values combine(MatrixView<const double> expert_out,
                 MatrixView<const double> weight) const override {
    return combine_fault ? combine_fault(*real_, expert_out, weight)
                         : real_->combine(expert_out, weight);
  }
  Values add(MatrixView<const double> a, MatrixView<const double> b) const override {
    return real_->add(a, b);
  }

  Result<std::span<const std::byte>> expert_byte_slice(const ExpertStack& stack,
                                                       std::size_t expert) const override {
    return real_->expert_byte_slice(stack, expert);
  }
  Result<void> matvec(const WeightView& weight, std::span<const double> x,
                      std::span<double> y) const override {
    if (matvec_fault) return matvec_fault(*real_, weight, x, y);
    if (auto checked = real_->matvec(weight, x, y); !checked) return checked;
    return copy(matmul(weight, {x.data(), 1, x.size()}), y);
  }
  Result<void> q4k_matvec(std::span<const std::byte> weight, std::size_t rows, std::size_t columns,
                          std::span<const double> x, std::span<double> y) const override {
    if (auto checked = real_->q4k_matvec(weight, rows, columns, x, y); !checked) return checked;
    return matvec({TensorType::kQ4_K, rows, columns, weight.data()}, x, y);
  }
  Result<void> q6k_gemv(std::span<const std::byte> weight, std::size_t rows, std::size_t columns,
                        std::span<const double> x, std::span<double> y) const override {
    if (auto checked = real_->q6k_gemv(weight, rows, columns, x, y); !checked) return checked;
    return matvec({TensorType::kQ6_K, rows, columns, weight.data()}, x, y);
  }
  Result<void> expert_swiglu(const WeightView& gate_proj, const WeightView& up_proj,
                             const WeightView& down_proj, std::span<const double> x,
                             std::span<double> y) const override {
    auto checked = real_->expert_swiglu(gate_proj, up_proj, down_proj, x, y);
    if (!checked) return checked;
    const MatrixView<const double> input(x.data(), 1, x.size());
    const Matrix<double> gate = *matmul(gate_proj, input);
    const Matrix<double> up = *matmul(up_proj, input);
    const Matrix<double> inner = *swiglu(gate.view(), up.view());
    auto done = copy(matmul(down_proj, inner.view()), y);
    if (expert_fault) expert_fault(y);
    return done;
  }
  Result<void> moe_ffn_forward_layer(const Config& config, const LayerWeights& layer,
                                     std::size_t layer_index, std::size_t first_position,
                                     MatrixView<const double> x, const ForwardOptions& options,
                                     MatrixView<double> y) const override {
    if (moe_entry_fault) moe_entry_fault(y);
    ForwardOptions untraced = options;
    untraced.trace = nullptr;
    auto checked =
        real_->moe_ffn_forward_layer(config, layer, layer_index, first_position, x, untraced, y);
    if (!checked) return moe_hides_errors ? Result<void>() : checked;
    return composed_moe(config, layer, layer_index, first_position, x, options, y);
  }

 private:
  static Result<void> copy(const Values& values, std::span<double> y) {
    if (!values) return values.error();
    std::ranges::copy(values->flat(), y.begin());
    return {};
  }

  // The block out of this backend's own ops.
  Result<void> composed_moe(const Config& config, const LayerWeights& layer,
                            std::size_t layer_index, std::size_t first_position,
                            MatrixView<const double> x, const ForwardOptions& options,
                            MatrixView<double> y) const {
    const std::size_t k = config.num_experts_per_tok;
    const Matrix<double> logits = *matmul(layer.router, x);
    auto routing = route(logits.view(), k, config.norm_topk_prob);
    if (!routing) return routing.error();
    if (options.forced_routes != nullptr) {
      routing->ids = options.forced_routes->ids[layer_index];
      for (std::size_t t = 0; t < x.rows; ++t) {
        const auto weights =
            closed_form_weights(logits.row(t), routing->ids.row(t), config.norm_topk_prob);
        std::ranges::copy(weights, routing->weights.row(t).begin());
      }
    }
    Matrix<std::int32_t> used = routing->ids;
    if (expert_id_fault) expert_id_fault(used);
    Matrix<double> gate(x.rows * k, config.moe_intermediate_size);
    Matrix<double> up = gate;
    Matrix<double> inner = gate;
    Matrix<double> out(x.rows * k, config.hidden_size);
    for (std::size_t slot = 0; slot < out.rows(); ++slot) {
      const auto expert = static_cast<std::size_t>(used.flat()[slot]);
      const MatrixView<const double> input(x.row(slot / k).data(), 1, x.columns);
      const auto put = [slot](const Values& values, Matrix<double>* rows) {
        std::ranges::copy(values->row(0), rows->row(slot).begin());
        return *values;
      };
      const Matrix<double> one_gate = put(matmul(layer.gate_proj.expert(expert), input), &gate);
      const Matrix<double> one_up = put(matmul(layer.up_proj.expert(expert), input), &up);
      const Matrix<double> one = put(swiglu(one_gate.view(), one_up.view()), &inner);
      put(matmul(layer.down_proj.expert(expert), one.view()), &out);
    }
    auto done = copy(combine(out.view(), routing->weights.view()), y.flat());
    if (moe_fault) moe_fault(y);
    if (options.trace != nullptr) {
      const auto record = [&](TracePoint point, const auto& values) {
        options.trace->record({point, layer_index}, first_position, values.view());
      };
      record(TracePoint::kRouterLogits, logits);
      record(TracePoint::kRouterIndex, std::as_const(routing->ids));
      record(TracePoint::kRouterWeight, std::as_const(routing->weights));
      record(TracePoint::kExpertGate, std::as_const(gate));
      record(TracePoint::kExpertUp, std::as_const(up));
      record(TracePoint::kExpertSwiglu, std::as_const(inner));
      record(TracePoint::kExpertOut, std::as_const(out));
      options.trace->record({TracePoint::kMoeOut, layer_index}, first_position,
                            MatrixView<const double>(y));
    }
    return done;
  }

  std::unique_ptr<Backend> real_;
};

}  // namespace refute
