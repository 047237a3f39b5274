#include <algorithm>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "engine/arguments.h"
#include "engine/backend.h"
#include "engine/cpu_weights.h"
#include "engine/faulty/experts.h"
#include "engine/float_arguments.h"
#include "kernels/attention.h"
#include "kernels/combine.h"
#include "kernels/cpu/read_bandwidth.h"
#include "kernels/embed.h"
#include "kernels/rms_norm.h"
#include "kernels/route.h"
#include "kernels/swiglu.h"

namespace refute {
namespace {

// Packed weights of a model and how many sessions use them.
struct Resident {
  std::uint64_t model = 0;  // Model::identity()
  std::size_t layers = 0;   // A model may have been cut.
  std::size_t sessions = 0;
  cpu::PackedWeights weights;
};

// Weights of a model are packed once and shared by its sessions; they stay until another model is
// opened, or the backend goes.
class Residents {
 public:
  // The weights of `model`, packed unless they are there; one session more uses them.
  Result<Resident*> acquire(const cpu::Context& context, const Model& model,
                            const PackProgress& progress) {
    const std::lock_guard lock(mutex_);
    auto found = std::ranges::find_if(residents_, [&](const auto& resident) {
      return resident->model == model.identity() && resident->layers == model.layers().size();
    });
    if (found == residents_.end()) {
      std::erase_if(residents_, [](const auto& resident) { return resident->sessions == 0; });
      auto packed = cpu::PackedWeights::create(context, model, progress);
      if (!packed) return packed.error();
      residents_.push_back(std::make_unique<Resident>(
          Resident{model.identity(), model.layers().size(), 0, *std::move(packed)}));
      found = residents_.end() - 1;
    }
    ++(*found)->sessions;
    return found->get();
  }
  void release(Resident& resident) {
    const std::lock_guard lock(mutex_);
    --resident.sessions;
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Resident>> residents_;
};

class CpuSession : public Session {
 public:
  // resident: acquired of residents.
  CpuSession(const cpu::Context& context, const Model& model, Residents& residents,
             Resident& resident, std::size_t capacity)
      : context_(context),
        model_(model),
        residents_(residents),
        resident_(resident),
        rope_table_(model.config().rope_theta, model.config().head_dim, capacity),
        cache_(model.config(), capacity) {}
  ~CpuSession() override { residents_.release(resident_); }
  CpuSession(const CpuSession&) = delete;
  CpuSession& operator=(const CpuSession&) = delete;

  Result<Matrix<double>> forward(std::span<const std::int32_t> tokens,
                                 const ForwardOptions& options) override {
    auto logits = forward_floats(tokens, options, nullptr);
    if (!logits) return logits.error();
    return to_double(*logits);
  }
  std::size_t length() const override { return cache_.length(); }
  std::size_t capacity() const override { return cache_.capacity(); }
  Result<void> rollback(std::size_t length) override {
    if (auto ok = check_rollback(length, cache_.length()); !ok) return ok;
    cache_.rollback(length);
    return {};
  }
  void poison_unused() override { cache_.fill_unused(0xFFFF); }

 protected:
  // As Session's, without a copy of the logits in float64.
  Result<std::int32_t> forward_greedy(std::int32_t token) override {
    std::int32_t likeliest = 0;
    const auto logits = forward_floats({&token, 1}, {}, &likeliest);
    if (!logits) return logits.error();
    return likeliest;
  }

 private:
  Result<Matrix<float>> forward_floats(std::span<const std::int32_t> tokens,
                                       const ForwardOptions& options, std::int32_t* likeliest) {
    return cpu::forward_qwen3_moe(context_, model_, resident_.weights, rope_table_, tokens, cache_,
                                  options, likeliest);
  }

  const cpu::Context& context_;
  const Model& model_;
  Residents& residents_;
  Resident& resident_;
  RopeTable rope_table_;
  KvCache<std::uint16_t> cache_;
};

class CpuBackend : public Backend {
 public:
  CpuBackend(cpu::Context context, PackProgress progress)
      : context_(std::move(context)), progress_(std::move(progress)) {}

  BackendId id() const override { return BackendId::kCpu; }
  std::string description() const override {
    const std::size_t threads = context_.threads().num_threads();
    return "cpu (" + std::string(cpu::isa_name(context_.isa())) + ", " + std::to_string(threads) +
           (threads == 1 ? " thread)" : " threads)");
  }

  std::optional<ReadBandwidth> measure_read_bandwidth() const override {
    return cpu::measure_read_bandwidth(context_);
  }

  Result<std::unique_ptr<Session>> open_session(const Model& model,
                                                std::size_t capacity) const override {
    if (auto ok = check_capacity(model.config(), capacity); !ok) return ok.error();
    const Result<Resident*> resident = residents_.acquire(context_, model, progress_);
    if (!resident) return resident.error();
    return std::unique_ptr<Session>(
        std::make_unique<CpuSession>(context_, model, residents_, **resident, capacity));
  }

  Result<Matrix<double>> embed(const WeightView& embed_tokens,
                               std::span<const std::int32_t> tokens) const override {
    if (auto ok = check_embed(embed_tokens, tokens); !ok) return ok.error();
    Matrix<float> y(tokens.size(), embed_tokens.columns);
    refute::embed<float>(embed_tokens, tokens, y.view());
    return to_double(y);
  }

  Result<Matrix<double>> rms_norm(MatrixView<const double> x, std::span<const float> weight,
                                  float epsilon) const override {
    if (auto ok = check_rms_norm(shape_of(x), weight.size()); !ok) return ok.error();
    const Matrix<float> input = to_float(x);
    Matrix<float> y(x.rows, x.columns);
    cpu::rms_norm(context_, input.view(), weight, epsilon, y.view());
    return to_double(y);
  }

  Result<Matrix<double>> matmul(const WeightView& weight,
                                MatrixView<const double> x) const override {
    if (auto ok = check_matmul(weight, shape_of(x)); !ok) return ok.error();
    const Matrix<float> input = to_float(x);
    Matrix<float> y(x.rows, weight.rows);
    cpu::matmul(context_, weight, input.view(), y.view());
    return to_double(y);
  }

  Result<Matrix<double>> rope(const RopeTable& table, std::size_t num_heads,
                              std::size_t first_position,
                              MatrixView<const double> x) const override {
    if (auto ok = check_rope(table, num_heads, first_position, shape_of(x)); !ok) return ok.error();
    Matrix<float> y = to_float(x);
    cpu::rope(context_, table, num_heads, first_position, y.view());
    return to_double(y);
  }

  Result<Matrix<double>> attention(const AttentionShape& shape, MatrixView<const double> q,
                                   MatrixView<const double> k, MatrixView<const double> v,
                                   std::size_t first_position) const override {
    auto ok = check_attention(shape, shape_of(q), shape_of(k), shape_of(v), first_position);
    if (!ok) return ok.error();
    const Matrix<float> query = to_float(q);
    const Matrix<std::uint16_t> keys = to_half(k);
    const Matrix<std::uint16_t> values = to_half(v);
    Matrix<float> y(q.rows, q.columns);
    cpu::attention(context_, shape, query.view(), keys.view(), values.view(), first_position,
                   y.view());
    return to_double(y);
  }

  Result<Routing<double>> route(MatrixView<const double> logits, std::size_t num_experts_per_tok,
                                bool norm_topk_prob) const override {
    const Matrix<float> input = to_float(logits);
    Routing<double> routing{{logits.rows, num_experts_per_tok}, {logits.rows, num_experts_per_tok}};
    Matrix<float> weights(logits.rows, num_experts_per_tok);
    for (std::size_t t = 0; t < logits.rows; ++t) {
      auto ok =
          refute::route<float>(input.row(t), norm_topk_prob, routing.ids.row(t), weights.row(t));
      if (!ok) return ok.error();
    }
    routing.weights = to_double(weights);
    return routing;
  }

  Result<Matrix<double>> swiglu(MatrixView<const double> gate,
                                MatrixView<const double> up) const override {
    if (auto ok = check_same_shape("swiglu", shape_of(gate), shape_of(up)); !ok) return ok.error();
    const Matrix<float> gate_input = to_float(gate);
    const Matrix<float> up_input = to_float(up);
    Matrix<float> y(gate.rows, gate.columns);
    cpu::swiglu(context_, gate_input.view(), up_input.view(), y.view());
    return to_double(y);
  }

  Result<Matrix<double>> combine(MatrixView<const double> expert_out,
                                 MatrixView<const double> weight) const override {
    if (auto ok = check_combine(shape_of(expert_out), shape_of(weight)); !ok) return ok.error();
    const Matrix<float> out = to_float(expert_out);
    const Matrix<float> weights = to_float(weight);
    Matrix<float> y(weight.rows, expert_out.columns);
    cpu::combine(context_, out.view(), weights.view(), y.view());
    return to_double(y);
  }

  Result<Matrix<double>> add(MatrixView<const double> a,
                             MatrixView<const double> b) const override {
    if (auto ok = check_same_shape("add", shape_of(a), shape_of(b)); !ok) return ok.error();
    Matrix<float> y = to_float(a);
    const Matrix<float> other = to_float(b);
    cpu::add(context_, std::as_const(y).view(), other.view(), y.view());
    return to_double(y);
  }

  Result<std::span<const std::byte>> expert_byte_slice(const ExpertStack& stack,
                                                       std::size_t expert) const override {
    if constexpr (kFaultSites) return faulty::expert_slice(FaultHost::kCpu, stack, expert);
    return cpu::expert_byte_slice(stack, expert);
  }
  Result<void> matvec(const WeightView& weight, std::span<const double> x,
                      std::span<double> y) const override {
    return with_floats(x, y, [&](auto input, auto output) {
      return cpu::matvec(context_, weight, input, output);
    });
  }
  Result<void> q4k_matvec(std::span<const std::byte> weight, std::size_t rows, std::size_t columns,
                          std::span<const double> x, std::span<double> y) const override {
    return with_floats(x, y, [&](auto input, auto output) {
      return cpu::q4k_matvec(context_, weight, rows, columns, input, output);
    });
  }
  Result<void> q6k_gemv(std::span<const std::byte> weight, std::size_t rows, std::size_t columns,
                        std::span<const double> x, std::span<double> y) const override {
    return with_floats(x, y, [&](auto input, auto output) {
      return cpu::q6k_gemv(context_, weight, rows, columns, input, output);
    });
  }
  Result<void> expert_swiglu(const WeightView& gate_proj, const WeightView& up_proj,
                             const WeightView& down_proj, std::span<const double> x,
                             std::span<double> y) const override {
    return with_floats(x, y, [&](auto input, auto output) {
      return cpu::expert_swiglu(context_, gate_proj, up_proj, down_proj, input, output);
    });
  }
  Result<void> moe_ffn_forward_layer(const Config& config, const LayerWeights& layer,
                                     std::size_t layer_index, std::size_t first_position,
                                     MatrixView<const double> x, const ForwardOptions& options,
                                     MatrixView<double> y) const override {
    const auto call = [&](std::span<const float> input, std::span<float> output) {
      return cpu::moe_ffn_forward_layer(context_, config, layer, layer_index, first_position,
                                        MatrixView<const float>(input.data(), x.rows, x.columns),
                                        options,
                                        MatrixView<float>(output.data(), y.rows, y.columns));
    };
    return with_floats(x.flat(), y.flat(), call);
  }

 private:
  cpu::Context context_;
  PackProgress progress_;
  mutable Residents residents_;
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(cpu::Context context, PackProgress progress) {
  return std::make_unique<CpuBackend>(std::move(context), std::move(progress));
}

}  // namespace refute
