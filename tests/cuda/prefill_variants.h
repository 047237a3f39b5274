// The products of prefill_ops.h with blocks of several shapes, to be timed against each other.
#pragma once

#include "kernels/cuda/prefill_ops.h"

namespace refute::cuda {

enum class ProductVariant { k4x3, k12x1, k8x2, k8x2Keep, k6x2 };
struct ProductVariantName {
  ProductVariant variant;
  const char* name;
};
inline constexpr ProductVariantName kProductVariants[] = {
    {ProductVariant::k4x3, "4 warps x 3"},
    {ProductVariant::k12x1, "12 warps x 1"},
    {ProductVariant::k8x2, "8 warps x 2"},
    {ProductVariant::k8x2Keep, "8 warps x 2, kept"},
    {ProductVariant::k6x2, "6 warps x 2"}};

void variant_matmul(ProductVariant variant, const Stream& stream, const DeviceMatrix& weight,
                    const TensorActivations& x, std::size_t num_tokens, float* y);
void variant_matmul_slots(ProductVariant variant, const Stream& stream, const DeviceMatrix& weight,
                          const TensorActivations& x, std::size_t slots_per_row,
                          const TensorSlots& slots, std::size_t num_slots, std::size_t num_experts,
                          float* y);
bool has_variant_swiglu(ProductVariant variant);
void variant_swiglu_slots(ProductVariant variant, const Stream& stream,
                          const DeviceMatrix& gate_proj, const DeviceMatrix& up_proj,
                          const TensorActivations& x, std::size_t slots_per_row,
                          const TensorSlots& slots, std::size_t num_slots, std::size_t num_experts,
                          const TensorActivations& y);

}  // namespace refute::cuda
