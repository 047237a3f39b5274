#include "falsifiers/attention_case.h"

#include <algorithm>
#include <array>
#include <cstdint>

#include "falsifiers/generators.h"
#include "kernels/check.h"

namespace refute {

std::size_t AttentionCase::value_column(std::size_t i) const {
  const std::size_t group_size = shape.num_attention_heads / shape.num_key_value_heads;
  const std::size_t head = i / shape.head_dim;
  return head / group_size * shape.head_dim + i % shape.head_dim;
}

void AttentionCase::keep_tokens(std::size_t num_tokens, std::size_t position) {
  CHECK(num_tokens <= q.rows());
  const auto kept = q.flat().first(num_tokens * q.columns());
  q = Matrix<double>(num_tokens, q.columns(), {kept.begin(), kept.end()});
  first_position = position;
}

AttentionCase draw_attention(PropertyCase& property_case) {
  static constexpr std::array<std::size_t, 4> kHeadDims = {16, 40, 64, 128};
  static constexpr std::array<std::size_t, 3> kGroupSizes = {1, 2, 4};
  AttentionCase drawn;
  drawn.shape.head_dim = property_case.pick("head_dim", kHeadDims);
  drawn.shape.num_key_value_heads = property_case.integer("num_key_value_heads", 1, 3);
  drawn.shape.num_attention_heads =
      drawn.shape.num_key_value_heads * property_case.pick("group_size", kGroupSizes);
  const std::size_t num_tokens = property_case.integer("num_tokens", 1, 9);
  drawn.first_position = property_case.integer("first_position", 0, 150);
  // Two positions at least: the smallest case must not miss a premise that larger ones meet.
  const std::size_t cached = std::max<std::size_t>(
      2, drawn.first_position + num_tokens + property_case.integer("spare", 0, 3));
  const std::uint64_t seed = property_case.seed("seed");
  drawn.q = make_activations(ActivationKind::kNormal, num_tokens, drawn.shape.query_size(), seed);
  drawn.k = make_half_activations(cached, drawn.shape.key_value_size(), seed + 1);
  drawn.v = make_half_activations(cached, drawn.shape.key_value_size(), seed + 2);
  return drawn;
}

}  // namespace refute
