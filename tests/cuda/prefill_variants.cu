#include "tests/cuda/prefill_variants.h"

#include "kernels/cuda/prefill_matmul.cuh"

namespace refute::cuda {
namespace {

template <TensorType kType, bool kSwiglu>
void launch_type(ProductVariant variant, const Stream& stream, const TensorProduct& product,
                 const TensorActivations& x, std::size_t num_tiles, const TensorTokens& tokens,
                 const TensorActivations& quantized) {
  const bool few = tokens.per_tile <= kFewTensorTokens;
  switch (variant) {
    case ProductVariant::k4x3:
      if (few) {
        return launch_tensor_matmul<kType, 4, kFewTensorTokens, 3, 4, kSwiglu, true>(
            stream, product, x, num_tiles, tokens, quantized);
      }
      return launch_tensor_matmul<kType, 4, kTensorTokens, 2, 3, kSwiglu, true>(
          stream, product, x, num_tiles, tokens, quantized);
    case ProductVariant::k4x3Converted:
      return launch_tensor_matmul<kType, 4, kTensorTokens, 2, 3, kSwiglu, false>(
          stream, product, x, num_tiles, tokens, quantized);
    case ProductVariant::k4x2:
      return launch_tensor_matmul<kType, 4, kTensorTokens, 2, 2, kSwiglu, true>(
          stream, product, x, num_tiles, tokens, quantized);
    case ProductVariant::k8x1:
      return launch_tensor_matmul<kType, 8, kTensorTokens, 2, 1, kSwiglu, true>(
          stream, product, x, num_tiles, tokens, quantized);
  }
  CHECK(false);
}

template <bool kSwiglu>
void launch(ProductVariant variant, const Stream& stream, const TensorProduct& product,
            const TensorActivations& x, std::size_t num_tiles, const TensorTokens& tokens,
            const TensorActivations& quantized) {
  const TensorType type = product.weights[0]->type;
  if (type == TensorType::kQ4_K) {
    launch_type<TensorType::kQ4_K, kSwiglu>(variant, stream, product, x, num_tiles, tokens,
                                            quantized);
  } else {
    CHECK(type == TensorType::kQ6_K);
    launch_type<TensorType::kQ6_K, kSwiglu>(variant, stream, product, x, num_tiles, tokens,
                                            quantized);
  }
}

}  // namespace

void variant_matmul(ProductVariant variant, const Stream& stream, const DeviceMatrix& weight,
                    const TensorActivations& x, std::size_t num_tokens, float* y) {
  launch<false>(variant, stream, {{&weight}, {y}}, x, tiles_of_rows(num_tokens),
                row_tokens(num_tokens), {});
}

void variant_matmul_slots(ProductVariant variant, const Stream& stream, const DeviceMatrix& weight,
                          const TensorActivations& x, std::size_t slots_per_row,
                          const TensorSlots& slots, std::size_t num_slots, std::size_t num_experts,
                          float* y) {
  launch<false>(variant, stream, {{&weight}, {y}}, x,
                TensorSlots::max_tiles(num_slots, num_experts),
                slot_tokens(slots, num_slots, num_experts, slots_per_row), {});
}

void variant_swiglu_slots(ProductVariant variant, const Stream& stream,
                          const DeviceMatrix& gate_proj, const DeviceMatrix& up_proj,
                          const TensorActivations& x, std::size_t slots_per_row,
                          const TensorSlots& slots, std::size_t num_slots, std::size_t num_experts,
                          const TensorActivations& y) {
  launch<true>(variant, stream, {{&gate_proj, &up_proj}, {}}, x,
               TensorSlots::max_tiles(num_slots, num_experts),
               slot_tokens(slots, num_slots, num_experts, slots_per_row), y);
}

}  // namespace refute::cuda
