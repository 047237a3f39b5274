// A sound backend with one named fault around its sessions or ops: what the falsifiers of a whole
// model must refute.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/backend.h"

namespace refute {

// What one call of a broken session is.
struct BrokenCall {
  std::size_t position;  // Of the call's first token.
  std::span<const std::int32_t> tokens;
  bool traced;
  std::size_t number;  // Calls on this backend before it.
};

struct SessionFaults {
  // Sees and may change every recorded trace point.
  std::function<void(const BrokenCall&, TraceSite, Matrix<double>*)> alter_trace;
  // Trace points for which it is true are not recorded.
  std::function<bool(TraceSite)> drops;
  // Trace points for which it is true are recorded twice.
  std::function<bool(TraceSite)> doubles;
  // Sees and may change the logits.
  std::function<void(const BrokenCall&, Matrix<double>*)> alter_logits;
  bool ignores_rollback = false;           // Only length() follows it.
  bool loses_a_position = false;           // A refused call still counts its token.
  std::optional<BackendId> claims;         // Reported for every layer.
  bool reports_nothing = false;            // `executed` stays as it was given.
  const Model* runs = nullptr;             // In place of any model of its shape.
  bool runs_for_all = false;               // In place of models of other shapes too.
  const Backend* falls_back_to = nullptr;  // Whose sessions are used, under this one's name.
};

class BrokenTrace : public TraceSink {
 public:
  BrokenTrace(TraceSink* inner, const SessionFaults& faults, BrokenCall call)
      : inner_(inner), faults_(faults), call_(call) {}

  void record(TraceSite site, std::size_t first_position, MatrixView<const double> rows) override {
    pass_on(site, first_position, rows);
  }
  void record(TraceSite site, std::size_t first_position, MatrixView<const float> rows) override {
    pass_on(site, first_position, rows);
  }
  void record(TraceSite site, std::size_t first_position,
              MatrixView<const std::int32_t> rows) override {
    pass_on(site, first_position, rows);
  }

 private:
  template <typename T>
  void pass_on(TraceSite site, std::size_t first_position, MatrixView<const T> rows) {
    if (faults_.drops && faults_.drops(site)) return;
    Matrix<double> values(rows.rows, rows.columns, {rows.flat().begin(), rows.flat().end()});
    if (faults_.alter_trace) faults_.alter_trace(call_, site, &values);
    std::vector<T> altered;
    for (const double value : values.flat()) altered.push_back(static_cast<T>(value));
    const Matrix<T> result(values.rows(), values.columns(), std::move(altered));
    inner_->record(site, first_position, result.view());
    if (faults_.doubles && faults_.doubles(site)) {
      inner_->record(site, first_position, result.view());
    }
  }

  TraceSink* inner_;
  const SessionFaults& faults_;
  BrokenCall call_;
};

class BrokenSession : public Session {
 public:
  BrokenSession(std::unique_ptr<Session> inner, const SessionFaults& faults, std::size_t* calls)
      : inner_(std::move(inner)), faults_(faults), calls_(calls) {}

  Result<Matrix<double>> forward(std::span<const std::int32_t> tokens,
                                 const ForwardOptions& options) override {
    const BrokenCall call{inner_->length(), tokens, options.trace != nullptr, (*calls_)++};
    BrokenTrace trace(options.trace, faults_, call);
    ForwardOptions inner_options = options;
    if (options.trace != nullptr) inner_options.trace = &trace;
    if (faults_.reports_nothing) inner_options.executed = nullptr;
    auto logits = inner_->forward(tokens, inner_options);
    if (!logits && faults_.loses_a_position) ++lost_;
    if (logits && faults_.alter_logits) faults_.alter_logits(call, &*logits);
    if (options.executed != nullptr && faults_.claims) {
      for (BackendId& id : *options.executed) id = *faults_.claims;
    }
    return logits;
  }
  std::size_t length() const override { return claimed_.value_or(inner_->length() + lost_); }
  std::size_t capacity() const override { return inner_->capacity(); }
  Result<void> rollback(std::size_t length) override {
    if (!faults_.ignores_rollback) return inner_->rollback(length);
    claimed_ = length;
    return {};
  }
  void poison_unused() override { inner_->poison_unused(); }

 private:
  std::unique_ptr<Session> inner_;
  const SessionFaults& faults_;
  std::size_t* calls_;
  std::size_t lost_ = 0;
  std::optional<std::size_t> claimed_;
};

class FaultySessionBackend : public Backend {
 public:
  FaultySessionBackend(const Backend& inner, SessionFaults faults)
      : inner_(inner), faults_(std::move(faults)) {}

  BackendId id() const override { return inner_.id(); }
  std::string description() const override { return inner_.description(); }
  Result<std::unique_ptr<Session>> open_session(const Model& model,
                                                std::size_t capacity) const override {
    const Backend& backend = faults_.falls_back_to == nullptr ? inner_ : *faults_.falls_back_to;
    const auto has_its_shape = [&](const Model& other) {
      return faults_.runs_for_all || (other.config().hidden_size == model.config().hidden_size &&
                                      other.config().vocab_size == model.config().vocab_size);
    };
    const bool replaced = faults_.runs != nullptr && has_its_shape(*faults_.runs);
    auto session = backend.open_session(replaced ? *faults_.runs : model, capacity);
    if (!session) return session.error();
    return std::unique_ptr<Session>(
        std::make_unique<BrokenSession>(std::move(*session), faults_, &calls_));
  }

  Result<Matrix<double>> embed(const WeightView& embed_tokens,
                               std::span<const std::int32_t> tokens) const override {
    return inner_.embed(embed_tokens, tokens);
  }
  Result<Matrix<double>> rms_norm(MatrixView<const double> x, std::span<const float> weight,
                                  float epsilon) const override {
    return inner_.rms_norm(x, weight, epsilon);
  }
  Result<Matrix<double>> matmul(const WeightView& weight,
                                MatrixView<const double> x) const override {
    return inner_.matmul(weight, x);
  }
  Result<Matrix<double>> rope(const RopeTable& table, std::size_t num_heads,
                              std::size_t first_position,
                              MatrixView<const double> x) const override {
    return inner_.rope(table, num_heads, first_position, x);
  }
  Result<Matrix<double>> attention(const AttentionShape& shape, MatrixView<const double> q,
                                   MatrixView<const double> k, MatrixView<const double> v,
                                   std::size_t first_position) const override {
    return inner_.attention(shape, q, k, v, first_position);
  }
  Result<Routing<double>> route(MatrixView<const double> logits, std::size_t num_experts_per_tok,
                                bool norm_topk_prob) const override {
    return inner_.route(logits, num_experts_per_tok, norm_topk_prob);
  }
  Result<Matrix<double>> swiglu(MatrixView<const double> gate,
                                MatrixView<const double> up) const override {
    return inner_.swiglu(gate, up);
  }
  Result<Matrix<double>> combine(MatrixView<const double> expert_out,
                                 MatrixView<const double> weight) const override {
    return inner_.combine(expert_out, weight);
  }
  Result<Matrix<double>> add(MatrixView<const double> a,
                             MatrixView<const double> b) const override {
    return inner_.add(a, b);
  }
  Result<std::span<const std::byte>> expert_byte_slice(const ExpertStack& stack,
                                                       std::size_t expert) const override {
    return inner_.expert_byte_slice(stack, expert);
  }
  Result<void> matvec(const WeightView& weight, std::span<const double> x,
                      std::span<double> y) const override {
    return inner_.matvec(weight, x, y);
  }
  Result<void> q4k_matvec(std::span<const std::byte> weight, std::size_t rows, std::size_t columns,
                          std::span<const double> x, std::span<double> y) const override {
    return inner_.q4k_matvec(weight, rows, columns, x, y);
  }
  Result<void> q6k_gemv(std::span<const std::byte> weight, std::size_t rows, std::size_t columns,
                        std::span<const double> x, std::span<double> y) const override {
    return inner_.q6k_gemv(weight, rows, columns, x, y);
  }
  Result<void> expert_swiglu(const WeightView& gate_proj, const WeightView& up_proj,
                             const WeightView& down_proj, std::span<const double> x,
                             std::span<double> y) const override {
    return inner_.expert_swiglu(gate_proj, up_proj, down_proj, x, y);
  }
  Result<void> moe_ffn_forward_layer(const Config& config, const LayerWeights& layer,
                                     std::size_t layer_index, std::size_t first_position,
                                     MatrixView<const double> x, const ForwardOptions& options,
                                     MatrixView<double> y) const override {
    return inner_.moe_ffn_forward_layer(config, layer, layer_index, first_position, x, options, y);
  }

 private:
  const Backend& inner_;
  SessionFaults faults_;
  mutable std::size_t calls_ = 0;
};

}  // namespace refute
