// Device memory of one sequence: what stays (cache, tables, one token's buffers) and what a call of
// many tokens needs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "engine/config.h"
#include "kernels/cuda/decode_ops.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/ops.h"
#include "kernels/result.h"

namespace refute::cuda {

// Cuts one allocation into arrays. Without a base it only counts, so that the same code measures
// and lays out.
class Arena {
 public:
  Arena() = default;
  explicit Arena(std::uint8_t* base) : base_(base) {}

  template <typename T>
  T* take(std::size_t size) {
    constexpr std::size_t kAlignment = 256;
    const std::size_t at = used_;
    used_ += (size * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    return base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + at);
  }
  DeviceActivations take_activations(std::size_t rows, std::size_t columns);
  std::size_t used() const { return used_; }

 private:
  std::uint8_t* base_ = nullptr;
  std::size_t used_ = 0;
};

// What a MoE block needs for a call of num_tokens.
struct MoeBuffers {
  DeviceActivations input;         // [num_tokens, hidden_size]
  float* router_logits = nullptr;  // [num_tokens, num_experts]
  std::int32_t* forced = nullptr;  // [num_tokens, k]
  std::int32_t* ids = nullptr;     // [num_tokens, k]
  float* weights = nullptr;        // [num_tokens, k]
  DeviceSlots slots;
  float* gate = nullptr;  // [num_tokens * k, moe_intermediate_size]
  float* up = nullptr;
  float* swiglu = nullptr;
  DeviceActivations inner;
  float* out = nullptr;  // [num_tokens * k, hidden_size]

  static MoeBuffers take(Arena& arena, const Config& config, std::size_t num_tokens);
};

// What a forward pass needs for a call of num_tokens.
struct CallBuffers {
  std::int32_t* tokens = nullptr;  // [num_tokens]
  float* hidden = nullptr;         // [num_tokens, hidden_size]
  float* norm = nullptr;           // [num_tokens, hidden_size]
  float* q = nullptr;              // [num_tokens, query_size]
  float* k = nullptr;              // [num_tokens, key_value_size]
  float* v = nullptr;
  float* heads = nullptr;     // [num_tokens, query_size]
  float* attn_out = nullptr;  // [num_tokens, hidden_size]
  float* moe_out = nullptr;
  DeviceActivations norm_activations;
  DeviceActivations heads_activations;
  MoeBuffers moe;

  static CallBuffers take(Arena& arena, const Config& config, std::size_t num_tokens);
};

// What lives as long as the sequence.
struct SequenceBuffers {
  std::uint16_t* cache = nullptr;  // [num_hidden_layers, 2, capacity, key_value_size]
  std::size_t layer_elements = 0;  // capacity * key_value_size
  float* cosines = nullptr;        // [capacity, head_dim / 2]
  float* sines = nullptr;
  float* scratch = nullptr;  // attention_scratch
  DecodeState* state = nullptr;
  std::int32_t* chosen = nullptr;  // [capacity], tokens of decode_greedy
  ArgmaxPartial* partial = nullptr;
  CallBuffers call;         // Of one token.
  float* logits = nullptr;  // [vocab_size]

  static SequenceBuffers take(Arena& arena, const Config& config, std::size_t capacity);
  LayerCache layer_cache(std::size_t layer) const {
    std::uint16_t* const k = cache + 2 * layer * layer_elements;
    return {k, k + layer_elements};
  }
};

DecodeShape decode_shape(const Config& config, std::size_t capacity);
DecodeBuffers decode_buffers(const SequenceBuffers& buffers);

}  // namespace refute::cuda
