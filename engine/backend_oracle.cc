#include <bit>
#include <utility>

#include "engine/arguments.h"
#include "engine/backend.h"
#include "engine/faulty/experts.h"
#include "engine/faulty/layer.h"
#include "kernels/attention.h"
#include "kernels/combine.h"
#include "kernels/embed.h"
#include "kernels/quant/half.h"
#include "kernels/rms_norm.h"
#include "kernels/route.h"
#include "kernels/swiglu.h"

namespace refute {
namespace {

class OracleSession : public Session {
 public:
  OracleSession(ActivationScheme scheme, const Model& model, std::size_t capacity)
      : scheme_(scheme),
        model_(model),
        rope_table_(model.config().rope_theta, model.config().head_dim, capacity),
        cache_(model.config(), capacity) {}

  Result<Matrix<double>> forward(std::span<const std::int32_t> tokens,
                                 const ForwardOptions& options) override {
    return oracle::forward_qwen3_moe(scheme_, model_, rope_table_, tokens, cache_, options);
  }
  std::size_t length() const override { return cache_.length(); }
  std::size_t capacity() const override { return cache_.capacity(); }
  Result<void> rollback(std::size_t length) override {
    if (auto ok = check_rollback(length, cache_.length()); !ok) return ok;
    cache_.rollback(length);
    return {};
  }
  void poison_unused() override { cache_.fill_unused(std::bit_cast<double>(~std::uint64_t{0})); }

 private:
  ActivationScheme scheme_;
  const Model& model_;
  RopeTable rope_table_;
  KvCache<double> cache_;
};

class OracleBackend : public Backend {
 public:
  explicit OracleBackend(ActivationScheme scheme) : scheme_(scheme) {}

  BackendId id() const override { return BackendId::kOracle; }
  std::string description() const override {
    return scheme_ == ActivationScheme::kExact ? "oracle (float64)"
                                               : "oracle (float64, emulated int8 activations)";
  }

  Result<std::unique_ptr<Session>> open_session(const Model& model,
                                                std::size_t capacity) const override {
    if (auto ok = check_capacity(model.config(), capacity); !ok) return ok.error();
    return std::unique_ptr<Session>(std::make_unique<OracleSession>(scheme_, model, capacity));
  }

  Result<Matrix<double>> embed(const WeightView& embed_tokens,
                               std::span<const std::int32_t> tokens) const override {
    if (auto ok = check_embed(embed_tokens, tokens); !ok) return ok.error();
    Matrix<double> y(tokens.size(), embed_tokens.columns);
    refute::embed<double>(embed_tokens, tokens, y.view());
    return y;
  }

  Result<Matrix<double>> rms_norm(MatrixView<const double> x, std::span<const float> weight,
                                  float epsilon) const override {
    if (auto ok = check_rms_norm(shape_of(x), weight.size()); !ok) return ok.error();
    Matrix<double> y(x.rows, x.columns);
    oracle::rms_norm(x, weight, static_cast<double>(epsilon), y.view());
    return y;
  }

  Result<Matrix<double>> matmul(const WeightView& weight,
                                MatrixView<const double> x) const override {
    if (auto ok = check_matmul(weight, shape_of(x)); !ok) return ok.error();
    Matrix<double> y(x.rows, weight.rows);
    oracle::matmul(weight, x, scheme_, y.view());
    return y;
  }

  Result<Matrix<double>> rope(const RopeTable& table, std::size_t num_heads,
                              std::size_t first_position,
                              MatrixView<const double> x) const override {
    if (auto ok = check_rope(table, num_heads, first_position, shape_of(x)); !ok) return ok.error();
    Matrix<double> y(x.rows, x.columns, {x.flat().begin(), x.flat().end()});
    oracle::rope(table, num_heads, first_position, y.view());
    return y;
  }

  Result<Matrix<double>> attention(const AttentionShape& shape, MatrixView<const double> q,
                                   MatrixView<const double> k, MatrixView<const double> v,
                                   std::size_t first_position) const override {
    auto ok = check_attention(shape, shape_of(q), shape_of(k), shape_of(v), first_position);
    if (!ok) return ok.error();
    const Matrix<double> cached_k = as_cached(k);
    const Matrix<double> cached_v = as_cached(v);
    Matrix<double> y(q.rows, q.columns);
    oracle::attention(shape, q, cached_k.view(), cached_v.view(), first_position, y.view());
    return y;
  }

  Result<Routing<double>> route(MatrixView<const double> logits, std::size_t num_experts_per_tok,
                                bool norm_topk_prob) const override {
    Routing<double> routing{{logits.rows, num_experts_per_tok}, {logits.rows, num_experts_per_tok}};
    for (std::size_t t = 0; t < logits.rows; ++t) {
      auto ok = refute::route<double>(logits.row(t), norm_topk_prob, routing.ids.row(t),
                                      routing.weights.row(t));
      if (!ok) return ok.error();
    }
    return routing;
  }

  Result<Matrix<double>> swiglu(MatrixView<const double> gate,
                                MatrixView<const double> up) const override {
    if (auto ok = check_same_shape("swiglu", shape_of(gate), shape_of(up)); !ok) return ok.error();
    Matrix<double> y(gate.rows, gate.columns);
    oracle::swiglu(gate, up, y.view());
    return y;
  }

  Result<Matrix<double>> combine(MatrixView<const double> expert_out,
                                 MatrixView<const double> weight) const override {
    if (auto ok = check_combine(shape_of(expert_out), shape_of(weight)); !ok) return ok.error();
    Matrix<double> y(weight.rows, expert_out.columns);
    oracle::combine(expert_out, weight, y.view());
    return y;
  }

  Result<Matrix<double>> add(MatrixView<const double> a,
                             MatrixView<const double> b) const override {
    if (auto ok = check_same_shape("add", shape_of(a), shape_of(b)); !ok) return ok.error();
    Matrix<double> y(a.rows, a.columns);
    oracle::add(a, b, y.view());
    return y;
  }

  Result<std::span<const std::byte>> expert_byte_slice(const ExpertStack& stack,
                                                       std::size_t expert) const override {
    if constexpr (kFaultSites) return faulty::expert_slice(FaultHost::kOracle, stack, expert);
    return oracle::expert_byte_slice(stack, expert);
  }
  Result<void> matvec(const WeightView& weight, std::span<const double> x,
                      std::span<double> y) const override {
    return oracle::matvec(scheme_, weight, x, y);
  }
  Result<void> q4k_matvec(std::span<const std::byte> weight, std::size_t rows, std::size_t columns,
                          std::span<const double> x, std::span<double> y) const override {
    return oracle::q4k_matvec(scheme_, weight, rows, columns, x, y);
  }
  Result<void> q6k_gemv(std::span<const std::byte> weight, std::size_t rows, std::size_t columns,
                        std::span<const double> x, std::span<double> y) const override {
    return oracle::q6k_gemv(scheme_, weight, rows, columns, x, y);
  }
  Result<void> expert_swiglu(const WeightView& gate_proj, const WeightView& up_proj,
                             const WeightView& down_proj, std::span<const double> x,
                             std::span<double> y) const override {
    return oracle::expert_swiglu(scheme_, gate_proj, up_proj, down_proj, x, y);
  }
  Result<void> moe_ffn_forward_layer(const Config& config, const LayerWeights& layer,
                                     std::size_t layer_index, std::size_t first_position,
                                     MatrixView<const double> x, const ForwardOptions& options,
                                     MatrixView<double> y) const override {
    return oracle::moe_ffn_forward_layer(scheme_, config, layer, layer_index, first_position, x,
                                         options, y);
  }

 private:
  // Rows as this scheme's cache holds them.
  Matrix<double> as_cached(MatrixView<const double> x) const {
    Matrix<double> cached(x.rows, x.columns, {x.flat().begin(), x.flat().end()});
    if (scheme_ == ActivationScheme::kExact) return cached;
    for (double& value : cached.flat()) {
      value = static_cast<double>(float_from_half(half_from_float(static_cast<float>(value))));
    }
    return cached;
  }

  ActivationScheme scheme_;
};

}  // namespace

std::unique_ptr<Backend> make_oracle_backend(ActivationScheme scheme) {
  return std::make_unique<OracleBackend>(scheme);
}

}  // namespace refute
