// The shape of an attention block (kernels/attention.h).
#pragma once

#include <cstddef>

namespace refute {

struct AttentionShape {
  std::size_t num_attention_heads = 0;
  std::size_t num_key_value_heads = 0;  // Divides num_attention_heads.
  std::size_t head_dim = 0;

  std::size_t query_size() const { return num_attention_heads * head_dim; }
  std::size_t key_value_size() const { return num_key_value_heads * head_dim; }
};

}  // namespace refute
