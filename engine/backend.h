// One backend behind one interface: its ops on host memory and its sessions. For code that treats
// all backends alike; the straight-line forward passes (forward_oracle.cc, forward_cpu.cc) are
// below it.
//
// Values cross the interface as float64, which holds float32 exactly: a fast backend rounds what it
// is given to float32 and returns its float32 results unchanged. Inputs that are float32 values
// already therefore reach it bit for bit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/backend_id.h"
#include "engine/forward.h"
#include "engine/model.h"
#include "engine/trace.h"
#include "kernels/matmul.h"
#include "kernels/matrix.h"
#include "kernels/read_bandwidth.h"
#include "kernels/result.h"
#include "kernels/rope.h"

namespace refute {

// Kernels of one decoded token on a backend that records them once and replays them.
struct LaunchCounts {
  std::size_t replayed = 0;  // In the recording.
  std::size_t launched = 0;  // Where the same token is launched kernel by kernel.
};

// One sequence on one backend.
class Session {
 public:
  virtual ~Session() = default;

  // As forward_qwen3_moe: appends tokens, returns logits [1 or num_tokens, vocab_size].
  virtual Result<Matrix<double>> forward(std::span<const std::int32_t> tokens,
                                         const ForwardOptions& options) = 0;
  // Appends `token`, then the likeliest next token (of equal logits the lowest id) and so on, until
  // `count` positions are appended; returns the `count` tokens that were likeliest, the last of
  // which is not appended. kContextFull, with nothing appended, when the positions are not there;
  // otherwise the errors of forward. A backend may do it without a word to the host between tokens.
  virtual Result<std::vector<std::int32_t>> decode_greedy(std::int32_t token, std::size_t count);
  // Empty for a backend that records nothing. Precondition: room for one more position; the length
  // stays.
  virtual std::optional<LaunchCounts> launch_counts() { return std::nullopt; }
  // forward of one token, its kernels launched one by one where forward would replay them.
  virtual Result<Matrix<double>> forward_unrecorded(std::int32_t token) {
    return forward({&token, 1}, {});
  }
  virtual std::size_t length() const = 0;    // Positions held.
  virtual std::size_t capacity() const = 0;  // Positions there is room for.
  // Forgets the positions from `length` on (0 resets). kInvalidShape when length > length().
  virtual Result<void> rollback(std::size_t length) = 0;
  // Overwrites with NaN (bytes 0xFF) everything that no later result may depend on: unused cache
  // positions and workspaces.
  virtual void poison_unused() = 0;

 protected:
  // The likeliest token after `token`, which is appended: what decode_greedy repeats.
  virtual Result<std::int32_t> forward_greedy(std::int32_t token);
};

// Memory of a backend's device, in bytes.
struct MemoryUse {
  std::size_t used = 0;
  std::size_t total = 0;
  std::size_t weights = 0;  // Of what is used, the model's weights.
};

class Backend {
 public:
  virtual ~Backend() = default;

  virtual BackendId id() const = 0;
  // For people and records: "cpu (avx512-vnni, 2 threads)".
  virtual std::string description() const = 0;

  // A sequence with room for `capacity` positions. kContextFull when the model's
  // max_position_embeddings is smaller; kOutOfMemory when it does not fit.
  virtual Result<std::unique_ptr<Session>> open_session(const Model& model,
                                                        std::size_t capacity) const = 0;

  // The device's memory while `model` is loaded with one session of `capacity` positions; empty for
  // a backend without memory of its own.
  virtual std::optional<MemoryUse> memory_use(const Model& /*model*/,
                                              std::size_t /*capacity*/) const {
    return std::nullopt;
  }
  // Bytes of the device's memory that this process holds now; empty as above.
  virtual std::optional<std::size_t> memory_held() const { return std::nullopt; }
  // The device's read bandwidth, measured now by a stream that its caches do not hold; empty for a
  // backend that cannot measure it.
  virtual std::optional<ReadBandwidth> measure_read_bandwidth() const { return std::nullopt; }

  // The ops, shapes as in kernels/*.h. Every one checks its arguments: kInvalidShape.
  virtual Result<Matrix<double>> embed(const WeightView& embed_tokens,
                                       std::span<const std::int32_t> tokens) const = 0;
  virtual Result<Matrix<double>> rms_norm(MatrixView<const double> x, std::span<const float> weight,
                                          float epsilon) const = 0;
  virtual Result<Matrix<double>> matmul(const WeightView& weight,
                                        MatrixView<const double> x) const = 0;
  virtual Result<Matrix<double>> rope(const RopeTable& table, std::size_t num_heads,
                                      std::size_t first_position,
                                      MatrixView<const double> x) const = 0;
  // k, v: rounded to the cache's element type (float16) by backends whose cache has one.
  virtual Result<Matrix<double>> attention(const AttentionShape& shape, MatrixView<const double> q,
                                           MatrixView<const double> k, MatrixView<const double> v,
                                           std::size_t first_position) const = 0;
  virtual Result<Routing<double>> route(MatrixView<const double> logits,
                                        std::size_t num_experts_per_tok,
                                        bool norm_topk_prob) const = 0;
  virtual Result<Matrix<double>> swiglu(MatrixView<const double> gate,
                                        MatrixView<const double> up) const = 0;
  virtual Result<Matrix<double>> combine(MatrixView<const double> expert_out,
                                         MatrixView<const double> weight) const = 0;
  virtual Result<Matrix<double>> add(MatrixView<const double> a,
                                     MatrixView<const double> b) const = 0;

  // The public functions of engine/forward.h. Results are written to y, so that its length is an
  // argument like any other.
  virtual Result<std::span<const std::byte>> expert_byte_slice(const ExpertStack& stack,
                                                               std::size_t expert) const = 0;
  virtual Result<void> matvec(const WeightView& weight, std::span<const double> x,
                              std::span<double> y) const = 0;
  virtual Result<void> q4k_matvec(std::span<const std::byte> weight, std::size_t rows,
                                  std::size_t columns, std::span<const double> x,
                                  std::span<double> y) const = 0;
  virtual Result<void> q6k_gemv(std::span<const std::byte> weight, std::size_t rows,
                                std::size_t columns, std::span<const double> x,
                                std::span<double> y) const = 0;
  virtual Result<void> expert_swiglu(const WeightView& gate_proj, const WeightView& up_proj,
                                     const WeightView& down_proj, std::span<const double> x,
                                     std::span<double> y) const = 0;
  virtual Result<void> moe_ffn_forward_layer(const Config& config, const LayerWeights& layer,
                                             std::size_t layer_index, std::size_t first_position,
                                             MatrixView<const double> x,
                                             const ForwardOptions& options,
                                             MatrixView<double> y) const = 0;
};

// float64. With kEmulatedInt8: int8 activations in quantized matmuls and a float16 cache.
std::unique_ptr<Backend> make_oracle_backend(ActivationScheme scheme);
// Told how many of how many bytes of a large model's weights are packed for the CPU.
using PackProgress = std::function<void(std::size_t done, std::size_t total)>;
std::unique_ptr<Backend> make_cpu_backend(cpu::Context context, PackProgress progress = {});

}  // namespace refute
