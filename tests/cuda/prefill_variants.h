// The products of prefill_ops.h with blocks of several shapes, to be timed against each other.
#pragma once

#include "kernels/cuda/prefill_ops.h"

namespace refute::cuda {

enum class ProductVariant { k4x3, k4x3Converted, k4x2, k8x1 };
struct ProductVariantName {
  ProductVariant variant;
  const char* name;
};
inline constexpr ProductVariantName kProductVariants[] = {
    {ProductVariant::k4x3, "4 warps x 3"},
    {ProductVariant::k4x3Converted, "4 warps x 3, I2F"},
    {ProductVariant::k4x2, "4 warps x 2"},
    {ProductVariant::k8x1, "8 warps x 1"}};

void variant_matmul(ProductVariant variant, const Stream& stream, const DeviceMatrix& weight,
                    const TensorActivations& x, std::size_t num_tokens, float* y);
void variant_matmul_slots(ProductVariant variant, const Stream& stream, const DeviceMatrix& weight,
                          const TensorActivations& x, std::size_t slots_per_row,
                          const TensorSlots& slots, std::size_t num_slots, std::size_t num_experts,
                          float* y);
void variant_swiglu_slots(ProductVariant variant, const Stream& stream,
                          const DeviceMatrix& gate_proj, const DeviceMatrix& up_proj,
                          const TensorActivations& x, std::size_t slots_per_row,
                          const TensorSlots& slots, std::size_t num_slots, std::size_t num_experts,
                          const TensorActivations& y);

}  // namespace refute::cuda
