// Calls of many tokens on the GPU (kernels/cuda/prefill_ops.h): the layers of forward_cuda.h's
// plain path with the same bits, the products on tensor cores and everything else in fewer passes.
// With PrefillAttention::kTensor attention is class B instead. Only in builds with CUDA.
#pragma once

#include <cstddef>
#include <span>

#include "engine/cuda_buffers.h"
#include "engine/cuda_options.h"
#include "engine/cuda_weights.h"
#include "kernels/cuda/device.h"

namespace refute::cuda {

// Calls of fewer tokens are decoded, or take the plain path: see Sequence.
inline constexpr std::size_t kMinPrefillTokens = 5;

// Tokens that a call works on at a time: more give the experts fuller tiles.
inline constexpr std::size_t kMaxPrefillTokens = 4096;

// Whether the kernels cover the device and all types and shapes.
bool can_prefill(const Context& context, const Config& config, std::span<const DeviceLayer> layers);

struct PrefillCall {
  const Context& context;
  const Config& config;
  std::size_t num_tokens;
  const CallBuffers& buffers;       // Its hidden is the input and becomes the output.
  const SequenceBuffers& sequence;  // state->position is that of the first token.
  PrefillAttention attention;
};

// All layers. What is not finite sets the flags of *sequence.state, as the plain path does.
// Precondition: can_prefill.
void run_prefill_layers(const PrefillCall& call, std::span<const DeviceLayer> layers);

}  // namespace refute::cuda
