// The CUDA path of engine/forward.h: the same public functions, arguments and errors, on host
// memory; and the plain layer, one kernel an op, that cuda_sequence.h runs. Only in builds with
// CUDA.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/cuda_buffers.h"
#include "engine/cuda_weights.h"
#include "engine/forward.h"
#include "kernels/cuda/device.h"

namespace refute::cuda {

using refute::expert_byte_slice;

Result<void> matvec(const Context& context, const WeightView& weight, std::span<const float> x,
                    std::span<float> y);
Result<void> q4k_matvec(const Context& context, std::span<const std::byte> weight, std::size_t rows,
                        std::size_t columns, std::span<const float> x, std::span<float> y);
Result<void> q6k_gemv(const Context& context, std::span<const std::byte> weight, std::size_t rows,
                      std::size_t columns, std::span<const float> x, std::span<float> y);
Result<void> expert_swiglu(const Context& context, const WeightView& gate_proj,
                           const WeightView& up_proj, const WeightView& down_proj,
                           std::span<const float> x, std::span<float> y);
Result<void> moe_ffn_forward_layer(const Context& context, const Config& config,
                                   const LayerWeights& layer, std::size_t layer_index,
                                   std::size_t first_position, MatrixView<const float> x,
                                   const ForwardOptions& options, MatrixView<float> y);

// matmul of host memory; preconditions as cpu::matmul.
Result<void> matmul_host(const Context& context, const WeightView& weight,
                         MatrixView<const float> x, MatrixView<float> y);

// y = x times a weight of any type, in device memory; `activations`, shaped like x, is scratch.
// on_host: the same weight there.
void matmul(const Context& context, const WeightView& on_host, const DeviceMatrix& weight,
            const float* x, std::size_t num_tokens, const DeviceActivations& activations, float* y);
// kernels/cuda/ops.h's rms_norm, with its fault sites.
void norm_rows(const Context& context, const float* x, const float* weight, std::size_t num_rows,
               std::size_t size, float epsilon, float* y);

// The recording side of a call (engine/trace.h's TraceCall) for values in device memory: waits for
// them and copies them. Does nothing without a sink.
class DeviceTrace {
 public:
  DeviceTrace(const Context& context, TraceSink* sink, std::size_t first_position)
      : context_(context), record_{sink, first_position} {}

  bool is_on() const { return record_.sink != nullptr; }
  TraceSink* sink() const { return record_.sink; }
  // values [rows, columns]
  template <typename T>
  void operator()(TracePoint point, std::size_t layer, const Matrix<T>& on_host) const {
    record_(point, layer, on_host);
  }
  template <typename T>
  void operator()(TracePoint point, std::size_t layer, const T* values, std::size_t rows,
                  std::size_t columns) const {
    if (!is_on()) return;
    Matrix<T> copy(rows, columns);
    context_.to_host(values, copy.size(), copy.data());
    record_(point, layer, copy);
  }

 private:
  const Context& context_;
  TraceCall record_;
};

// One call of the plain layers.
struct PlainCall {
  const Context& context;
  const Config& config;
  std::size_t num_tokens;
  std::size_t first_position;
  const CallBuffers& buffers;
  DecodeState* state;                 // In device memory: position and router_error.
  const ForcedRoutes* forced_routes;  // Or null.
  DeviceTrace trace;
  // Waits for every layer's cache and routing and reports their error at once; otherwise it stays
  // in *state.
  bool check_layers;
};

// The sequence's part of a layer.
struct PlainCache {
  LayerCache cache;
  const RopeTable* rope_table;  // On the host; the next two on the device.
  const float* cosines;
  const float* sines;
};

// buffers.hidden, in place, through one layer; `weights` are the layer's on the host. Errors: of
// the cache and the router, with check_layers.
Result<void> run_plain_layer(const PlainCall& call, const LayerWeights& weights,
                             const DeviceLayer& layer, std::size_t index, const PlainCache& cache);

}  // namespace refute::cuda
