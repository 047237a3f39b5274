#include "validators/witness.h"

#include <utility>

namespace refute {
namespace {

class WitnessSession : public Session {
 public:
  WitnessSession(std::unique_ptr<Session> session, WitnessLog& log)
      : session_(std::move(session)), log_(log) {}

  Result<Matrix<double>> forward(std::span<const std::int32_t> tokens,
                                 const ForwardOptions& options) override {
    std::vector<BackendId> own;
    ForwardOptions observed = options;
    if (observed.executed == nullptr) observed.executed = &own;
    auto logits = session_->forward(tokens, observed);
    if (logits) {
      log_.saw(logits->flat());
      log_.saw_layers(*observed.executed);
    }
    return logits;
  }
  Result<std::vector<std::int32_t>> decode_greedy(std::int32_t token, std::size_t count) override {
    auto likeliest = session_->decode_greedy(token, count);
    if (likeliest) log_.saw(std::vector<double>(likeliest->begin(), likeliest->end()));
    return likeliest;
  }
  std::optional<LaunchCounts> launch_counts() override { return session_->launch_counts(); }
  Result<Matrix<double>> forward_unrecorded(std::int32_t token) override {
    auto logits = session_->forward_unrecorded(token);
    if (logits) log_.saw(logits->flat());
    return logits;
  }
  std::size_t length() const override { return session_->length(); }
  std::size_t capacity() const override { return session_->capacity(); }
  Result<void> rollback(std::size_t length) override { return session_->rollback(length); }
  void poison_unused() override { session_->poison_unused(); }

 private:
  std::unique_ptr<Session> session_;
  WitnessLog& log_;
};

class WitnessBackend : public Backend {
 public:
  WitnessBackend(const Backend& backend, WitnessLog& log) : backend_(backend), log_(log) {}

  BackendId id() const override { return backend_.id(); }
  std::string description() const override { return backend_.description(); }
  std::optional<MemoryUse> memory_use(const Model& model, std::size_t capacity) const override {
    return backend_.memory_use(model, capacity);
  }
  std::optional<std::size_t> memory_held() const override { return backend_.memory_held(); }
  std::optional<ReadBandwidth> measure_read_bandwidth() const override {
    return backend_.measure_read_bandwidth();
  }

  Result<std::unique_ptr<Session>> open_session(const Model& model,
                                                std::size_t capacity) const override {
    auto session = backend_.open_session(model, capacity);
    if (!session) return session.error();
    return std::unique_ptr<Session>(std::make_unique<WitnessSession>(*std::move(session), log_));
  }

  Result<Matrix<double>> embed(const WeightView& embed_tokens,
                               std::span<const std::int32_t> tokens) const override {
    return seen(backend_.embed(embed_tokens, tokens));
  }
  Result<Matrix<double>> rms_norm(MatrixView<const double> x, std::span<const float> weight,
                                  float epsilon) const override {
    return seen(backend_.rms_norm(x, weight, epsilon));
  }
  Result<Matrix<double>> matmul(const WeightView& weight,
                                MatrixView<const double> x) const override {
    return seen(backend_.matmul(weight, x));
  }
  Result<Matrix<double>> rope(const RopeTable& table, std::size_t num_heads,
                              std::size_t first_position,
                              MatrixView<const double> x) const override {
    return seen(backend_.rope(table, num_heads, first_position, x));
  }
  Result<Matrix<double>> attention(const AttentionShape& shape, MatrixView<const double> q,
                                   MatrixView<const double> k, MatrixView<const double> v,
                                   std::size_t first_position) const override {
    return seen(backend_.attention(shape, q, k, v, first_position));
  }
  Result<Routing<double>> route(MatrixView<const double> logits, std::size_t num_experts_per_tok,
                                bool norm_topk_prob) const override {
    auto routing = backend_.route(logits, num_experts_per_tok, norm_topk_prob);
    if (routing) {
      const std::vector<double> ids(routing->ids.flat().begin(), routing->ids.flat().end());
      log_.saw(ids);
      log_.saw(routing->weights.flat());
    }
    return routing;
  }
  Result<Matrix<double>> swiglu(MatrixView<const double> gate,
                                MatrixView<const double> up) const override {
    return seen(backend_.swiglu(gate, up));
  }
  Result<Matrix<double>> combine(MatrixView<const double> expert_out,
                                 MatrixView<const double> weight) const override {
    return seen(backend_.combine(expert_out, weight));
  }
  Result<Matrix<double>> add(MatrixView<const double> a,
                             MatrixView<const double> b) const override {
    return seen(backend_.add(a, b));
  }

  Result<std::span<const std::byte>> expert_byte_slice(const ExpertStack& stack,
                                                       std::size_t expert) const override {
    return backend_.expert_byte_slice(stack, expert);
  }
  Result<void> matvec(const WeightView& weight, std::span<const double> x,
                      std::span<double> y) const override {
    return seen(backend_.matvec(weight, x, y), y);
  }
  Result<void> q4k_matvec(std::span<const std::byte> weight, std::size_t rows, std::size_t columns,
                          std::span<const double> x, std::span<double> y) const override {
    return seen(backend_.q4k_matvec(weight, rows, columns, x, y), y);
  }
  Result<void> q6k_gemv(std::span<const std::byte> weight, std::size_t rows, std::size_t columns,
                        std::span<const double> x, std::span<double> y) const override {
    return seen(backend_.q6k_gemv(weight, rows, columns, x, y), y);
  }
  Result<void> expert_swiglu(const WeightView& gate_proj, const WeightView& up_proj,
                             const WeightView& down_proj, std::span<const double> x,
                             std::span<double> y) const override {
    return seen(backend_.expert_swiglu(gate_proj, up_proj, down_proj, x, y), y);
  }
  Result<void> moe_ffn_forward_layer(const Config& config, const LayerWeights& layer,
                                     std::size_t layer_index, std::size_t first_position,
                                     MatrixView<const double> x, const ForwardOptions& options,
                                     MatrixView<double> y) const override {
    return seen(
        backend_.moe_ffn_forward_layer(config, layer, layer_index, first_position, x, options, y),
        y.flat());
  }

 private:
  Result<Matrix<double>> seen(Result<Matrix<double>> result) const {
    if (result) log_.saw(result->flat());
    return result;
  }
  Result<void> seen(Result<void> result, std::span<const double> y) const {
    if (result) log_.saw(y);
    return result;
  }

  const Backend& backend_;
  WitnessLog& log_;
};

}  // namespace

void WitnessLog::saw(std::span<const double> outputs) {
  hash_.update(std::as_bytes(outputs));
  any_ = any_ || !outputs.empty();
}

void WitnessLog::saw_layers(std::span<const BackendId> executed) {
  if (layers_.size() < executed.size()) layers_.resize(executed.size());
  for (std::size_t layer = 0; layer < executed.size(); ++layer) {
    layers_[layer].insert(executed[layer]);
  }
}

std::string WitnessLog::outputs_sha256() const { return any_ ? hash_.hex() : ""; }

std::vector<std::string> WitnessLog::executed() const {
  std::vector<std::string> names;
  for (const std::set<BackendId>& layer : layers_) {
    std::string name;
    for (const BackendId id : layer) {
      name += (name.empty() ? "" : "+") + std::string(backend_name(id));
    }
    names.push_back(std::move(name));
  }
  return names;
}

std::unique_ptr<Backend> make_witness(const Backend& backend, WitnessLog& log) {
  return std::make_unique<WitnessBackend>(backend, log);
}

}  // namespace refute
