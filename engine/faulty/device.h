// Faults on the CUDA path. Those that only a GPU can have are kernels of kernels/cuda/faulty.h and
// sites in the sources of the CUDA engine. Those of arithmetic, which the GPU shares with the CPU
// bit for bit, are the CPU's sites: at the op that a fault belongs to, the CPU's op runs on the
// operands as they are in device memory, and where its site was reached, its result takes the place
// of the GPU's. All around that op stays on the GPU. Built for seeding faults only
// (kernels/faults.h), and with CUDA.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>

#include "engine/cuda_buffers.h"
#include "engine/forward.h"
#include "kernels/cpu/context.h"
#include "kernels/cuda/device.h"
#include "kernels/faults.h"
#include "kernels/matrix.h"
#include "kernels/rope.h"

namespace refute::faulty {

// Whether calls of one token must go through the plain path: the fused kernels have no sites, but
// those faults that are of the graph itself.
bool needs_plain_path();
// Whether every site is asked and none acts: both paths must run, so that all sites are reached.
bool asks_both_paths();

// Runs `edit`, which holds sites of the CPU, as CUDA's.
void in_place_of_cpu(const std::function<void()>& edit);

// Moves what the buffer holds to other memory; the old memory stays for those that point at it.
void move_memory(const cuda::Context& context, cuda::DeviceBuffer<std::uint8_t>& buffer);
// Takes the bytes away and brings them back some time after the call has returned (F84).
void arrive_late(const cuda::Context& context, const cuda::DeviceBuffer<std::uint8_t>& buffer);

// The ops by name, each as in kernels/cuda/ops.h; whether it has been done with a fault.
bool rms_norm(const cuda::Context& context, const float* x, const float* weight,
              std::size_t num_rows, std::size_t size, float epsilon, float* y);
bool matmul(const cuda::Context& context, const WeightView& weight, const float* x,
            std::size_t num_tokens, float* y);
bool embed(const cuda::Context& context, const WeightView& embed_tokens, const std::int32_t* tokens,
           std::size_t num_tokens, float* y);
bool rope(const cuda::Context& context, const RopeTable& table, std::size_t first_position,
          std::size_t num_tokens, std::size_t num_heads, float* x);
bool attention(const cuda::Context& context, const AttentionShape& shape, const float* q,
               const std::uint16_t* k, const std::uint16_t* v, std::size_t first_position,
               std::size_t num_tokens, float* y);
bool append_to_cache(const cuda::Context& context, const float* x, std::size_t first_position,
                     std::size_t num_tokens, std::size_t columns, std::uint16_t* cache);
std::optional<Result<Routing<float>>> route(const Matrix<float>& logits,
                                            std::size_t num_experts_per_tok, bool norm_topk_prob);
std::optional<Matrix<float>> combine(const Matrix<float>& expert_out, const Matrix<float>& weight);
// The queries, [num_tokens, query_size] (F102).
void edit_query_on_device(const cuda::Context& context, const Config& config,
                          std::size_t num_tokens, float* q);
// gate, up, y [rows, columns]
bool swiglu(const cuda::Context& context, const float* gate, const float* up, std::size_t rows,
            std::size_t columns, float* y);
// The whole block, its trace points with it. An error is of the block with the fault.
Result<bool> moe(const cuda::Context& context, const Config& config, const LayerWeights& layer,
                 std::size_t layer_index, std::size_t first_position, std::size_t num_tokens,
                 const float* x, const ForwardOptions& options, float* y);

}  // namespace refute::faulty
