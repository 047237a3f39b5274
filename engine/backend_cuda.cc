// The CUDA backend behind engine/backend.h. Weights of a model are uploaded once and shared by its
// sessions; they stay until another model is opened, or the backend goes.
#include "engine/backend_cuda.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "engine/arguments.h"
#include "engine/backend.h"
#include "engine/cuda_ops.h"
#include "engine/cuda_sequence.h"
#include "engine/cuda_weights.h"
#include "engine/faulty/device.h"
#include "engine/faulty/experts.h"
#include "engine/float_arguments.h"
#include "engine/forward_cuda.h"
#include "kernels/faults.h"

namespace refute {
namespace {

Result<Matrix<double>> to_double(Result<Matrix<float>> x) {
  if (!x) return x.error();
  return to_double(*x);
}

// to_half, whose fault sites are the CPU's, as CUDA's.
Matrix<std::uint16_t> to_cuda_half(MatrixView<const double> x) {
  Matrix<std::uint16_t> y;
  if constexpr (kFaultSites) {
    faulty::in_place_of_cpu([&] { y = to_half(x); });
  } else {
    y = to_half(x);
  }
  return y;
}

// Weights on the device and how many sessions use them.
struct Resident {
  std::uint64_t model = 0;   // Model::identity()
  std::size_t layers = 0;    // A model may have been cut.
  std::uint64_t faults = 0;  // fault_epoch() of the upload: it may hold a fault.
  std::size_t sessions = 0;
  cuda::DeviceModel weights;
};

class Residents {
 public:
  // The weights of `model`, uploaded unless they are there; one session more uses them.
  // `session_bytes`: what the session will take beside them, counted in before anything is
  // uploaded.
  Result<Resident*> acquire(const cuda::Context& context, const Model& model,
                            std::size_t session_bytes) {
    Resident* found = find(model);
    if (found == nullptr) drop_unused();
    const std::size_t weights = found == nullptr ? cuda::DeviceModel::bytes_for(model) : 0;
    const std::size_t free = cuda::device_memory().free;
    if (weights + session_bytes > free && !fault_seeded("F131", FaultHost::kCuda)) {
      return cuda::out_of_memory("open_session: weights of " + std::to_string(weights) +
                                     " bytes and a session of " + std::to_string(session_bytes),
                                 weights + session_bytes);
    }
    if (found == nullptr) {
      auto uploaded = cuda::DeviceModel::upload(context, model);
      if (!uploaded) return uploaded.error();
      residents_.push_back(std::make_unique<Resident>(Resident{
          model.identity(), model.layers().size(), fault_epoch(), 0, *std::move(uploaded)}));
      found = residents_.back().get();
    }
    ++found->sessions;
    return found;
  }
  static void release(Resident& resident) { --resident.sessions; }

 private:
  Resident* find(const Model& model) {
    for (const auto& resident : residents_) {
      if (resident->model == model.identity() && resident->layers == model.layers().size() &&
          resident->faults == fault_epoch()) {
        return resident.get();
      }
    }
    return nullptr;
  }
  void drop_unused() {
    std::erase_if(residents_, [](const auto& resident) { return resident->sessions == 0; });
  }

  std::vector<std::unique_ptr<Resident>> residents_;
};

class CudaSession : public Session {
 public:
  CudaSession(std::unique_ptr<cuda::Sequence> sequence, Resident& resident)
      : sequence_(std::move(sequence)), resident_(resident) {}
  ~CudaSession() override { Residents::release(resident_); }
  CudaSession(const CudaSession&) = delete;
  CudaSession& operator=(const CudaSession&) = delete;

  Result<Matrix<double>> forward(std::span<const std::int32_t> tokens,
                                 const ForwardOptions& options) override {
    return to_double(sequence_->forward(tokens, options));
  }
  Result<std::vector<std::int32_t>> decode_greedy(std::int32_t token, std::size_t count) override {
    if constexpr (kFaultSites) {
      if (faulty::needs_plain_path() || faulty::asks_both_paths()) {
        return Session::decode_greedy(token, count);
      }
    }
    return sequence_->decode_greedy(token, count);
  }
  std::optional<LaunchCounts> launch_counts() override {
    return LaunchCounts{sequence_->graph_nodes(),
                        static_cast<std::size_t>(sequence_->launches_without_graph())};
  }
  Result<Matrix<double>> forward_unrecorded(std::int32_t token) override {
    return to_double(sequence_->decode_without_graph(token));
  }
  std::size_t length() const override { return sequence_->length(); }
  std::size_t capacity() const override { return sequence_->capacity(); }
  Result<void> rollback(std::size_t length) override {
    if (auto ok = check_rollback(length, sequence_->length()); !ok) return ok;
    sequence_->rollback(length);
    return {};
  }
  void poison_unused() override { sequence_->poison_unused(); }

 private:
  std::unique_ptr<cuda::Sequence> sequence_;
  Resident& resident_;
};

// Read by a stream that no cache holds.
constexpr std::size_t kBandwidthBytes = std::size_t{2} << 30;

class CudaBackend : public Backend {
 public:
  CudaBackend(cuda::Context context, const CudaOptions& options)
      : context_(std::move(context)), options_(options) {}

  BackendId id() const override { return BackendId::kCuda; }
  std::string description() const override {
    const cuda::DeviceInfo& device = context_.device();
    const auto version = [](int number, int major_unit, int minor_unit) {
      return std::to_string(number / major_unit) + "." +
             std::to_string(number % major_unit / minor_unit);
    };
    return "cuda (" + device.name + ", compute capability " +
           version(device.compute_capability, 10, 1) + ", " +
           std::to_string(device.total_memory >> 20) + " MiB, driver for CUDA " +
           version(device.driver_version, 1000, 10) +
           (options_.prefill_attention == PrefillAttention::kTensor ? ", tensor attention)" : ")");
  }

  Result<std::unique_ptr<Session>> open_session(const Model& model,
                                                std::size_t capacity) const override {
    if (auto ok = check_capacity(model.config(), capacity); !ok) return ok.error();
    auto resident =
        residents_.acquire(context_, model, cuda::Sequence::bytes_for(model.config(), capacity));
    if (!resident) return resident.error();
    auto sequence =
        cuda::Sequence::create(context_, model, (*resident)->weights, capacity, options_);
    if (!sequence) {
      Residents::release(**resident);
      return sequence.error();
    }
    return std::unique_ptr<Session>(
        std::make_unique<CudaSession>(*std::move(sequence), **resident));
  }

  std::optional<MemoryUse> memory_use(const Model& model, std::size_t capacity) const override {
    const auto session = open_session(model, capacity);
    const std::size_t weights = cuda::DeviceModel::bytes_for(model);
    const cuda::DeviceMemory memory = cuda::device_memory();
    const std::size_t used = memory.total - memory.free;
    // What does not fit uses more than there is.
    const std::size_t wanted =
        session ? 0 : weights + cuda::Sequence::bytes_for(model.config(), capacity);
    return MemoryUse{used + wanted, memory.total, weights};
  }
  std::optional<std::size_t> memory_held() const override { return cuda::held_bytes(); }

  std::optional<ReadBandwidth> measure_read_bandwidth() const override {
    // A model that is resident anyway may leave less.
    const std::size_t bytes = std::min(kBandwidthBytes, cuda::device_memory().free / 2);
    auto memory = cuda::DeviceBuffer<std::uint8_t>::allocate(bytes, "a stream to read");
    if (!memory || bytes < (std::size_t{1} << 28)) return std::nullopt;
    // Not zeros, which some memories read faster.
    CUDA_CHECK(cudaMemsetAsync(memory->data(), 0x5a, bytes, context_.stream()));
    return cuda::measure_read_bandwidth(context_, memory->data(), bytes);
  }

  Result<Matrix<double>> embed(const WeightView& embed_tokens,
                               std::span<const std::int32_t> tokens) const override {
    if (auto ok = check_embed(embed_tokens, tokens); !ok) return ok.error();
    return to_double(cuda::embed_host(context_, embed_tokens, tokens));
  }

  Result<Matrix<double>> rms_norm(MatrixView<const double> x, std::span<const float> weight,
                                  float epsilon) const override {
    if (auto ok = check_rms_norm(shape_of(x), weight.size()); !ok) return ok.error();
    return to_double(cuda::rms_norm_host(context_, to_float(x), weight, epsilon));
  }

  Result<Matrix<double>> matmul(const WeightView& weight,
                                MatrixView<const double> x) const override {
    if (auto ok = check_matmul(weight, shape_of(x)); !ok) return ok.error();
    const Matrix<float> input = to_float(x);
    Matrix<float> y(x.rows, weight.rows);
    if (auto ok = cuda::matmul_host(context_, weight, input.view(), y.view()); !ok) {
      return ok.error();
    }
    return to_double(y);
  }

  Result<Matrix<double>> rope(const RopeTable& table, std::size_t num_heads,
                              std::size_t first_position,
                              MatrixView<const double> x) const override {
    if (auto ok = check_rope(table, num_heads, first_position, shape_of(x)); !ok) return ok.error();
    return to_double(cuda::rope_host(context_, table, num_heads, first_position, to_float(x)));
  }

  Result<Matrix<double>> attention(const AttentionShape& shape, MatrixView<const double> q,
                                   MatrixView<const double> k, MatrixView<const double> v,
                                   std::size_t first_position) const override {
    auto ok = check_attention(shape, shape_of(q), shape_of(k), shape_of(v), first_position);
    if (!ok) return ok.error();
    return to_double(cuda::attention_host(context_, shape, to_float(q), to_cuda_half(k),
                                          to_cuda_half(v), first_position));
  }

  Result<Routing<double>> route(MatrixView<const double> logits, std::size_t num_experts_per_tok,
                                bool norm_topk_prob) const override {
    auto routing =
        cuda::route_host(context_, to_float(logits), num_experts_per_tok, norm_topk_prob);
    if (!routing) return routing.error();
    return Routing<double>{std::move(routing->ids), to_double(routing->weights)};
  }

  Result<Matrix<double>> swiglu(MatrixView<const double> gate,
                                MatrixView<const double> up) const override {
    if (auto ok = check_same_shape("swiglu", shape_of(gate), shape_of(up)); !ok) return ok.error();
    return to_double(cuda::swiglu_host(context_, to_float(gate), to_float(up)));
  }

  Result<Matrix<double>> combine(MatrixView<const double> expert_out,
                                 MatrixView<const double> weight) const override {
    if (auto ok = check_combine(shape_of(expert_out), shape_of(weight)); !ok) return ok.error();
    return to_double(cuda::combine_host(context_, to_float(expert_out), to_float(weight)));
  }

  Result<Matrix<double>> add(MatrixView<const double> a,
                             MatrixView<const double> b) const override {
    if (auto ok = check_same_shape("add", shape_of(a), shape_of(b)); !ok) return ok.error();
    return to_double(cuda::add_host(context_, to_float(a), to_float(b)));
  }

  Result<std::span<const std::byte>> expert_byte_slice(const ExpertStack& stack,
                                                       std::size_t expert) const override {
    if constexpr (kFaultSites) return faulty::expert_slice(FaultHost::kCuda, stack, expert);
    return cuda::expert_byte_slice(stack, expert);
  }
  Result<void> matvec(const WeightView& weight, std::span<const double> x,
                      std::span<double> y) const override {
    return with_floats(x, y, [&](auto input, auto output) {
      return cuda::matvec(context_, weight, input, output);
    });
  }
  Result<void> q4k_matvec(std::span<const std::byte> weight, std::size_t rows, std::size_t columns,
                          std::span<const double> x, std::span<double> y) const override {
    return with_floats(x, y, [&](auto input, auto output) {
      return cuda::q4k_matvec(context_, weight, rows, columns, input, output);
    });
  }
  Result<void> q6k_gemv(std::span<const std::byte> weight, std::size_t rows, std::size_t columns,
                        std::span<const double> x, std::span<double> y) const override {
    return with_floats(x, y, [&](auto input, auto output) {
      return cuda::q6k_gemv(context_, weight, rows, columns, input, output);
    });
  }
  Result<void> expert_swiglu(const WeightView& gate_proj, const WeightView& up_proj,
                             const WeightView& down_proj, std::span<const double> x,
                             std::span<double> y) const override {
    return with_floats(x, y, [&](auto input, auto output) {
      return cuda::expert_swiglu(context_, gate_proj, up_proj, down_proj, input, output);
    });
  }
  Result<void> moe_ffn_forward_layer(const Config& config, const LayerWeights& layer,
                                     std::size_t layer_index, std::size_t first_position,
                                     MatrixView<const double> x, const ForwardOptions& options,
                                     MatrixView<double> y) const override {
    const auto call = [&](std::span<const float> input, std::span<float> output) {
      return cuda::moe_ffn_forward_layer(context_, config, layer, layer_index, first_position,
                                         MatrixView<const float>(input.data(), x.rows, x.columns),
                                         options,
                                         MatrixView<float>(output.data(), y.rows, y.columns));
    };
    return with_floats(x.flat(), y.flat(), call);
  }

 private:
  cuda::Context context_;
  CudaOptions options_;
  // Before the context goes. Changed by open_session, which is const: what is resident is no part
  // of what the backend means.
  mutable Residents residents_;
};

}  // namespace

Result<std::unique_ptr<Backend>> make_cuda_backend(const CudaOptions& options) {
  auto context = cuda::Context::create();
  if (!context) return context.error();
  return std::unique_ptr<Backend>(std::make_unique<CudaBackend>(*std::move(context), options));
}

}  // namespace refute
