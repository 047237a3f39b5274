// What may be chosen of the CUDA backend. In every build.
#pragma once

#include <optional>
#include <string_view>

namespace refute {

// How calls of many tokens attend.
enum class PrefillAttention {
  kExact,   // The bits of kernels/attention.h, however long a call is.
  kTensor,  // On the tensor cores: class B, bits of its own.
};
inline constexpr PrefillAttention kAllPrefillAttentions[] = {PrefillAttention::kExact,
                                                             PrefillAttention::kTensor};

constexpr std::string_view prefill_attention_name(PrefillAttention attention) {
  return attention == PrefillAttention::kExact ? "exact" : "tensor";
}
constexpr std::optional<PrefillAttention> parse_prefill_attention(std::string_view name) {
  for (const PrefillAttention known : kAllPrefillAttentions) {
    if (prefill_attention_name(known) == name) return known;
  }
  return std::nullopt;
}

struct CudaOptions {
  // kTensor: only for models that the kernels of prefill cover (engine/prefill_cuda.h). Calls of
  // fewer tokens, traced ones and decoding stay exact.
  PrefillAttention prefill_attention = PrefillAttention::kExact;
};

}  // namespace refute
