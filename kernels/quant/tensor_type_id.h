// The element types' names alone (tensor_type.h says what they are): for sources that the CUDA
// compiler reads once per architecture.
#pragma once

namespace refute {

enum class TensorType { kF32, kF16, kBF16, kQ8_0, kQ4_K, kQ5_K, kQ6_K, kI32, kF64 };

}  // namespace refute
