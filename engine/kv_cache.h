// The keys and values of one sequence, per layer.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "engine/config.h"
#include "kernels/check.h"
#include "kernels/matrix.h"

namespace refute {

// T: double in the oracle, float16 bit patterns (uint16_t) on the fast backends.
template <typename T>
class KvCache {
 public:
  // Room for `capacity` positions.
  KvCache(const Config& config, std::size_t capacity) : capacity_(capacity) {
    const std::size_t columns = config.attention_shape().key_value_size();
    for (std::size_t layer = 0; layer < config.num_hidden_layers; ++layer) {
      keys_.emplace_back(capacity, columns);
      values_.emplace_back(capacity, columns);
    }
  }

  std::size_t capacity() const { return capacity_; }
  std::size_t length() const { return length_; }  // Positions held.
  // Appending happens in two steps: the layers write rows [length, length + n), then advance(n).
  void advance(std::size_t num_tokens) {
    CHECK(length_ + num_tokens <= capacity_);
    length_ += num_tokens;
  }
  // Forgets the positions from `length` on; 0 resets.
  void rollback(std::size_t length) {
    CHECK(length <= length_);
    length_ = length;
  }
  // Overwrites every position that is not held.
  void fill_unused(T value) {
    for (auto* tensors : {&keys_, &values_}) {
      for (Matrix<T>& tensor : *tensors) {
        const auto begin = tensor.flat().subspan(length_ * tensor.columns());
        std::fill(begin.begin(), begin.end(), value);
      }
    }
  }

  // [capacity, num_key_value_heads * head_dim]
  Matrix<T>& keys(std::size_t layer) { return keys_[layer]; }
  Matrix<T>& values(std::size_t layer) { return values_[layer]; }
  const Matrix<T>& keys(std::size_t layer) const { return keys_[layer]; }
  const Matrix<T>& values(std::size_t layer) const { return values_[layer]; }

 private:
  std::size_t capacity_;
  std::size_t length_ = 0;
  std::vector<Matrix<T>> keys_;
  std::vector<Matrix<T>> values_;
};

}  // namespace refute
