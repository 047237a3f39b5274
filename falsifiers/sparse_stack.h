// A stack of experts that is large by address and small in memory: pages that were never written
// read as zeros and cost nothing.
#pragma once

#include <cstddef>
#include <span>

#include "engine/model.h"
#include "kernels/quant/tensor_type.h"
#include "kernels/result.h"

namespace refute {

// In front of the stack lie another 2 GiB of zeros, where an offset that wrapped to a negative
// int32 ends up: it reads zeros and does not crash.
class SparseStack {
 public:
  // kOutOfMemory when the system has no such range of addresses.
  static Result<SparseStack> create(TensorType type, std::size_t num_experts, std::size_t rows,
                                    std::size_t columns);
  SparseStack(SparseStack&& other) noexcept;
  SparseStack& operator=(SparseStack&& other) noexcept;
  ~SparseStack();

  ExpertStack view() const;
  // Copies to `offset` within the bytes of an expert.
  void write(std::size_t expert, std::size_t offset, std::span<const std::byte> bytes);

 private:
  SparseStack() = default;

  TensorType type_ = TensorType::kF32;
  std::size_t num_experts_ = 0;
  std::size_t rows_ = 0;
  std::size_t columns_ = 0;
  std::byte* mapping_ = nullptr;
  std::size_t mapped_ = 0;
};

}  // namespace refute
