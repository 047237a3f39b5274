#include "tests/cuda/prefill_variants.h"

#include "kernels/cuda/prefill_matmul.cuh"

namespace refute::cuda {
namespace {

template <TensorType kType, bool kSwiglu>
void launch_type(ProductVariant variant, const Stream& stream, const DeviceMatrix& w,
                 const std::uint8_t* up, const TensorActivations& x, std::size_t num_tiles,
                 const TensorTokens& tokens, float* y, const TensorActivations& quantized) {
  constexpr int kTokens = kTensorTokens;
  switch (variant) {
    case ProductVariant::k4x3:
      return launch_tensor_matmul<kType, 4, kTokens, 3, kSwiglu, false>(
          stream, w, up, x, num_tiles, tokens, y, quantized);
    case ProductVariant::k4x2:
      return launch_tensor_matmul<kType, 4, kTokens, 2, kSwiglu, true>(
          stream, w, up, x, num_tiles, tokens, y, quantized);
    case ProductVariant::k8x1:
      return launch_tensor_matmul<kType, 8, kTokens, 1, kSwiglu, true>(
          stream, w, up, x, num_tiles, tokens, y, quantized);
    case ProductVariant::k4x2x80:
      return launch_tensor_matmul<kType, 4, 80, 2, kSwiglu, true>(stream, w, up, x, num_tiles,
                                                                  tokens, y, quantized);
  }
  CHECK(false);
}

template <bool kSwiglu>
void launch(ProductVariant variant, const Stream& stream, const DeviceMatrix& w,
            const std::uint8_t* up, const TensorActivations& x, std::size_t num_tiles,
            const TensorTokens& tokens, float* y, const TensorActivations& quantized) {
  if (w.type == TensorType::kQ4_K) {
    launch_type<TensorType::kQ4_K, kSwiglu>(variant, stream, w, up, x, num_tiles, tokens, y,
                                            quantized);
  } else {
    CHECK(w.type == TensorType::kQ6_K);
    launch_type<TensorType::kQ6_K, kSwiglu>(variant, stream, w, up, x, num_tiles, tokens, y,
                                            quantized);
  }
}

}  // namespace

bool has_variant_slots(ProductVariant variant) { return variant_tokens(variant) == kTensorTokens; }

void variant_matmul(ProductVariant variant, const Stream& stream, const DeviceMatrix& weight,
                    const TensorActivations& x, std::size_t num_tokens, float* y) {
  launch<false>(variant, stream, weight, nullptr, x, tiles_of_rows(num_tokens, static_cast<std::size_t>(variant_tokens(variant))),
                row_tokens(num_tokens, static_cast<std::size_t>(variant_tokens(variant))), y, {});
}

void variant_matmul_slots(ProductVariant variant, const Stream& stream, const DeviceMatrix& weight,
                          const TensorActivations& x, std::size_t slots_per_row,
                          const TensorSlots& slots, std::size_t num_slots, std::size_t num_experts,
                          float* y) {
  launch<false>(variant, stream, weight, nullptr, x, TensorSlots::max_tiles(num_slots, num_experts),
                slot_tokens(slots, num_slots, slots_per_row), y, {});
}

void variant_swiglu_slots(ProductVariant variant, const Stream& stream,
                          const DeviceMatrix& gate_proj, const DeviceMatrix& up_proj,
                          const TensorActivations& x, std::size_t slots_per_row,
                          const TensorSlots& slots, std::size_t num_slots, std::size_t num_experts,
                          const TensorActivations& y) {
  launch<true>(variant, stream, gate_proj, up_proj.data, x,
               TensorSlots::max_tiles(num_slots, num_experts),
               slot_tokens(slots, num_slots, slots_per_row), nullptr, y);
}

}  // namespace refute::cuda
