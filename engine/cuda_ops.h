// The ops of engine/backend.h on host memory: each copies its operands to the device, runs the
// kernel and copies the result back. Preconditions are those of cpu::; errors are kOutOfMemory, and
// route's own. Only in builds with CUDA.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/forward.h"
#include "kernels/attention.h"
#include "kernels/cuda/device.h"
#include "kernels/matrix.h"
#include "kernels/quant/dequantize.h"
#include "kernels/result.h"
#include "kernels/rope.h"

namespace refute::cuda {

Result<Matrix<float>> embed_host(const Context& context, const WeightView& embed_tokens,
                                 std::span<const std::int32_t> tokens);
Result<Matrix<float>> rms_norm_host(const Context& context, const Matrix<float>& x,
                                    std::span<const float> weight, float epsilon);
Result<Matrix<float>> rope_host(const Context& context, const RopeTable& table,
                                std::size_t num_heads, std::size_t first_position,
                                const Matrix<float>& x);
// k, v: float16 bit patterns.
Result<Matrix<float>> attention_host(const Context& context, const AttentionShape& shape,
                                     const Matrix<float>& q, const Matrix<std::uint16_t>& k,
                                     const Matrix<std::uint16_t>& v, std::size_t first_position);
Result<Routing<float>> route_host(const Context& context, const Matrix<float>& logits,
                                  std::size_t num_experts_per_tok, bool norm_topk_prob);
Result<Matrix<float>> swiglu_host(const Context& context, const Matrix<float>& gate,
                                  const Matrix<float>& up);
Result<Matrix<float>> combine_host(const Context& context, const Matrix<float>& expert_out,
                                   const Matrix<float>& weight);
Result<Matrix<float>> add_host(const Context& context, const Matrix<float>& a,
                               const Matrix<float>& b);

}  // namespace refute::cuda
