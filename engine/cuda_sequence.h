// A sequence in GPU memory and the forward pass that appends to it (engine/forward.h). Only in
// builds with CUDA.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/cuda_buffers.h"
#include "engine/cuda_options.h"
#include "engine/cuda_weights.h"
#include "engine/forward.h"
#include "engine/forward_cuda.h"
#include "kernels/cuda/device.h"

namespace refute::cuda {

// One sequence on the device. Calls of one token without a trace, and of few where one kernel runs
// all layers, are decoded: by a CUDA graph of fused kernels or of that one. Those of many go
// through prefill_cuda.h where it covers the model, everything else through one kernel an op; all
// give the same bits, unless the options ask for another attention.
class Sequence {
 public:
  // Model and weights must outlive it. kOutOfMemory when its buffers do not fit; kUnsupported for a
  // head_dim above kMaxHeadDim, and for options that need what prefill does not cover.
  static Result<std::unique_ptr<Sequence>> create(const Context& context, const Model& model,
                                                  const DeviceModel& weights, std::size_t capacity,
                                                  const CudaOptions& options = {});
  // Bytes of device memory that create takes.
  static std::size_t bytes_for(const Config& config, std::size_t capacity);
  ~Sequence();
  Sequence(const Sequence&) = delete;
  Sequence& operator=(const Sequence&) = delete;

  std::size_t length() const { return length_; }
  std::size_t capacity() const { return capacity_; }
  void rollback(std::size_t length);
  void poison_unused();

  // As forward_qwen3_moe of engine/forward.h.
  Result<Matrix<float>> forward(std::span<const std::int32_t> tokens,
                                const ForwardOptions& options);
  // As Session::decode_greedy: many tokens a kernel, or one graph replay a token.
  Result<std::vector<std::int32_t>> decode_greedy(std::int32_t token, std::size_t count);

  // For tests. The kernels of the graph, and of the same token launched one by one (at the next
  // position, which must be free and stays so); what decoding `token` gives when it is launched so.
  std::size_t graph_nodes();
  std::uint64_t launches_without_graph();
  Result<Matrix<float>> decode_without_graph(std::int32_t token);
  // Whether every layer runs the fused kernels; whether one kernel runs all layers, when replayed.
  bool is_fused() const;
  bool is_persistent() const;

 private:
  Sequence(const Context& context, const Model& model, const DeviceModel& weights,
           std::size_t capacity, const CudaOptions& options);
  Result<void> allocate();
  Result<void> reserve_call(std::size_t num_tokens);
  Result<void> build_graph();
  Result<void> upload_persistent_layers();

  void write_state(std::int32_t token, std::size_t position);
  PlainCache plain_cache(std::size_t layer) const;
  // How the layers of a decoded token are launched.
  enum class DecodePath { kFused, kReplay };
  void launch_decode(DecodePath path);
  void launch_layers(DecodePath path);
  void launch_tokens(std::size_t num_tokens);
  DecodeEnds ends() const;
  Result<Matrix<float>> decode(std::int32_t token, bool use_graph);
  // Whether a call is decoded token by token, and that.
  bool decodes(std::size_t num_tokens, const ForwardOptions& options) const;
  Result<Matrix<float>> decode_all(std::span<const std::int32_t> tokens,
                                   const ForwardOptions& options);
  Result<Matrix<float>> run_plain(std::span<const std::int32_t> tokens,
                                  const ForwardOptions& options, bool check_layers);
  bool takes_prefill(std::size_t num_tokens, const ForwardOptions& options,
                     bool check_layers) const;
  Result<void> run_chunk(std::span<const std::int32_t> tokens, std::size_t position,
                         const ForwardOptions& options, bool check_layers);
  void embed_tokens(const std::int32_t* tokens, std::size_t num_tokens, float* hidden);
  Matrix<float> compute_logits(const float* hidden, std::size_t num_rows, std::size_t position,
                               const ForwardOptions& options);

  const Context& context_;
  const Model& model_;
  const DeviceModel& weights_;
  std::size_t capacity_;
  CudaOptions options_;
  std::size_t length_ = 0;
  RopeTable rope_table_;
  DecodeShape shape_;

  DeviceBuffer<std::uint8_t> memory_;
  SequenceBuffers buffers_;
  DecodeBuffers decode_;
  DeviceBuffer<std::uint8_t> call_memory_;  // Grows with the longest call.
  std::size_t call_tokens_ = 0;
  CallBuffers call_;
  float* call_logits_ = nullptr;

  PinnedBuffer<DecodeState> host_state_;
  PinnedBuffer<float> host_logits_;
  // What the kernel of all layers reads, and its exchange; empty where there is no such kernel.
  DeviceBuffer<PersistentLayer> persistent_layers_;
  DeviceBuffer<std::uint64_t> exchange_;
  std::size_t most_tokens_ = 0;  // That this kernel takes from embedding to likeliest; 0: none.
  cudaGraphExec_t graph_ = nullptr;
  std::size_t graph_nodes_ = 0;
};

}  // namespace refute::cuda
