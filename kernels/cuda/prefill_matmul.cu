#include "kernels/cuda/prefill_matmul.cuh"

namespace refute::cuda {

bool has_tensor_product(const DeviceMatrix& weight) {
  return (weight.type == TensorType::kQ4_K || weight.type == TensorType::kQ6_K) &&
         weight.rows > 0 && weight.rows == weight.tiled_rows && weight.columns % 256 == 0;
}

namespace {

constexpr int kWarps = 4;
constexpr int kMinBlocks = 3;

template <bool kSwiglu>
void launch(const Stream& stream, const DeviceMatrix& weight, const std::uint8_t* up_data,
            const TensorActivations& x, std::size_t num_tiles, const TensorTokens& tokens, float* y,
            const TensorActivations& quantized) {
  if (weight.type == TensorType::kQ4_K) {
    launch_tensor_matmul<TensorType::kQ4_K, kWarps, kTensorTokens, kMinBlocks, kSwiglu, false>(
        stream, weight, up_data, x, num_tiles, tokens, y, quantized);
  } else {
    launch_tensor_matmul<TensorType::kQ6_K, kWarps, kTensorTokens, kMinBlocks, kSwiglu, false>(
        stream, weight, up_data, x, num_tiles, tokens, y, quantized);
  }
}

}  // namespace

bool has_tensor_swiglu(const DeviceMatrix& gate_proj, const DeviceMatrix& up_proj) {
  return has_tensor_product(gate_proj) && has_tensor_product(up_proj) &&
         gate_proj.type == up_proj.type && gate_proj.rows == up_proj.rows &&
         gate_proj.columns == up_proj.columns && gate_proj.expert_stride == up_proj.expert_stride &&
         gate_proj.rows % 256 == 0;
}

void tensor_matmul(const Stream& stream, const DeviceMatrix& weight, const TensorActivations& x,
                   std::size_t num_tokens, float* y) {
  CHECK(has_tensor_product(weight));
  launch<false>(stream, weight, nullptr, x, tiles_of_rows(num_tokens), row_tokens(num_tokens), y,
                {});
}

void tensor_matmul_slots(const Stream& stream, const DeviceMatrix& weight,
                         const TensorActivations& x, std::size_t slots_per_row,
                         const TensorSlots& slots, std::size_t num_slots, std::size_t num_experts,
                         float* y) {
  CHECK(has_tensor_product(weight));
  launch<false>(stream, weight, nullptr, x, TensorSlots::max_tiles(num_slots, num_experts),
                slot_tokens(slots, num_slots, slots_per_row), y, {});
}

void tensor_swiglu_slots(const Stream& stream, const DeviceMatrix& gate_proj,
                         const DeviceMatrix& up_proj, const TensorActivations& x,
                         std::size_t slots_per_row, const TensorSlots& slots, std::size_t num_slots,
                         std::size_t num_experts, const TensorActivations& y) {
  CHECK(has_tensor_swiglu(gate_proj, up_proj));
  CHECK(y.stride == gate_proj.rows);
  launch<true>(stream, gate_proj, up_proj.data, x, TensorSlots::max_tiles(num_slots, num_experts),
               slot_tokens(slots, num_slots, slots_per_row), nullptr, y);
}

}  // namespace refute::cuda
