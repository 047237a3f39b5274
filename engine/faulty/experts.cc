#include "engine/faulty/experts.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "engine/forward.h"
#include "kernels/check.h"
#include "kernels/quant/blocks.h"
#include "kernels/quant/half.h"

namespace refute::faulty {
namespace {

constexpr std::size_t kInt31 = std::size_t{1} << 31;

// Stored rows of a matrix that may be changed.
struct Rows {
  TensorType type;
  std::size_t rows;
  std::size_t columns;
  std::vector<std::byte> bytes;

  explicit Rows(const WeightView& weight)
      : type(weight.type),
        rows(weight.rows),
        columns(weight.columns),
        bytes(weight.data, weight.data + weight.bytes()) {}

  std::size_t block_bytes() const { return tensor_type_info(type).block_bytes; }
  std::size_t row_blocks() const { return columns / tensor_type_info(type).block_size; }
  std::span<std::byte> row(std::size_t r) {
    const std::size_t size = row_blocks() * block_bytes();
    return std::span(bytes).subspan(r * size, size);
  }
  WeightView view() const { return {type, rows, columns, bytes.data()}; }
};

bool all_zero(std::span<const std::byte> bytes) {
  return std::ranges::all_of(bytes, [](std::byte byte) { return byte == std::byte{0}; });
}

// Where the float16 scales of a block stand: d, and dmin for the types that have it.
struct ScalePlaces {
  std::optional<std::size_t> d;
  std::optional<std::size_t> dmin;
};
ScalePlaces scale_places(TensorType type) {
  switch (type) {
    case TensorType::kQ8_0:
      return {0, {}};
    case TensorType::kQ4_K:
    case TensorType::kQ5_K:
      return {0, 2};
    case TensorType::kQ6_K:
      return {offsetof(BlockQ6K, d), {}};
    default:
      return {};
  }
}

std::uint16_t load_half(const std::byte* from) {
  std::uint16_t half;
  std::memcpy(&half, from, sizeof(half));
  return half;
}
void store_half(std::byte* to, std::uint16_t half) { std::memcpy(to, &half, sizeof(half)); }

bool is_finite_half(std::uint16_t half) { return (half & 0x7c00u) != 0x7c00u; }

// The first block whose d changes under `change`, a function of the stored d that gives none where
// it would not do; and d as changed.
struct ChangedD {
  std::size_t at;  // Byte of d.
  std::uint16_t d;
};
template <typename Change>
std::optional<ChangedD> first_changed_d(const Rows& rows, const Change& change) {
  const ScalePlaces places = scale_places(rows.type);
  if (!places.d) return std::nullopt;
  for (std::size_t at = *places.d; at < rows.bytes.size(); at += rows.block_bytes()) {
    const std::uint16_t d = load_half(rows.bytes.data() + at);
    const std::optional<std::uint16_t> changed = change(d);
    if (changed && *changed != d) return ChangedD{at, *changed};
  }
  return std::nullopt;
}

auto times(float factor) {
  return [factor](std::uint16_t d) -> std::optional<std::uint16_t> {
    const std::uint16_t scaled = half_from_float(float_from_half(d) * factor);
    if (!is_finite_half(scaled)) return std::nullopt;
    return scaled;
  };
}

std::optional<std::uint16_t> with_bytes_swapped(std::uint16_t d) {
  const auto swapped = static_cast<std::uint16_t>((d << 8) | (d >> 8));
  if (!is_finite_half(swapped)) return std::nullopt;
  return swapped;
}

// The sign of every element of a row.
void negate_row(Rows& rows, std::size_t r) {
  const std::span<std::byte> row = rows.row(r);
  const std::size_t step = rows.block_bytes();
  const ScalePlaces places = scale_places(rows.type);
  const auto flip = [&](std::size_t high_byte) {
    for (std::size_t at = high_byte; at < row.size(); at += step) row[at] ^= std::byte{0x80};
  };
  if (!places.d) return flip(step - 1);  // A float: the sign is the highest bit.
  flip(*places.d + 1);
  if (places.dmin) flip(*places.dmin + 1);
}

std::vector<std::byte> rotated(std::span<const std::byte> bytes, std::size_t by) {
  std::vector<std::byte> result(bytes.begin(), bytes.end());
  std::ranges::rotate(result, result.begin() + static_cast<std::ptrdiff_t>(by));
  return result;
}

// Bytes of 256 columns, a super-block.
std::size_t super_block_bytes(const Rows& rows) { return row_bytes(rows.type, 256); }

void edit_gate(FaultHost host, std::size_t layer_index, std::size_t expert, Rows& gate) {
  const std::size_t step = super_block_bytes(gate);
  if (gate.columns % 256 != 0 || gate.bytes.size() <= step) return;
  if (layer_index == 0 && expert == 0 && gate.columns > 256 && fault_seeded("F16", host)) {
    for (std::size_t r = 0; r < gate.rows; ++r) {
      std::ranges::copy(rotated(gate.row(r), step), gate.row(r).begin());
    }
  }
  if (fault_seeded("F18", host)) gate.bytes = rotated(gate.bytes, step);
}

void edit_up(FaultHost host, std::size_t num_experts, std::size_t expert, Rows& up) {
  const std::size_t unit = std::min<std::size_t>(5, up.rows - 1);
  if (expert != std::min<std::size_t>(3, num_experts - 1) || all_zero(up.row(unit))) return;
  if (fault_seeded("F21", host)) std::ranges::fill(up.row(unit), std::byte{0});
}

void edit_down(FaultHost host, std::size_t num_experts, std::size_t layer_index, std::size_t expert,
               Rows& down) {
  if (expert == std::min<std::size_t>(7, num_experts - 1) && fault_seeded("F19", host)) {
    negate_row(down, std::min<std::size_t>(100, down.rows - 1));
  }
  if (layer_index != 0 || expert != 0) return;
  const auto first_block = down.row(0).first(std::min(super_block_bytes(down), down.row(0).size()));
  if (!all_zero(first_block) && fault_seeded("F13", host)) {
    std::ranges::fill(first_block, std::byte{0});
  }
  const auto twice = first_changed_d(down, times(2));
  if (twice && fault_seeded("F14", host)) store_half(down.bytes.data() + twice->at, twice->d);
  const auto more = first_changed_d(down, times(256));
  if (more && fault_seeded("F15", host)) store_half(down.bytes.data() + more->at, more->d);
  const auto swapped = first_changed_d(down, with_bytes_swapped);
  if (swapped && fault_seeded("F107a", host)) {
    store_half(down.bytes.data() + swapped->at, swapped->d);
  }
  if (!all_zero(down.bytes) && fault_seeded("F17", host)) {
    std::ranges::fill(down.bytes, std::byte{0});
  }
}

// Whether a fault that changes bytes can be seeded; copies are made for those only.
bool edits_bytes(FaultHost host) {
  return fault_armed("F13", host) || fault_armed("F14", host) || fault_armed("F15", host) ||
         fault_armed("F16", host) || fault_armed("F17", host) || fault_armed("F18", host) ||
         fault_armed("F19", host) || fault_armed("F21", host) || fault_armed("F107a", host);
}

// The matrix whose rows are read as `type` from where they start, with zeros past the tensor's end.
class ReadAs {
 public:
  ReadAs(TensorType type, const ExpertStack& stack, const std::byte* begin)
      : type_(type), rows_(stack.rows), columns_(stack.columns) {
    bytes_.resize(rows_ * row_bytes(type, columns_));
    const auto available = static_cast<std::size_t>(stack.data.data() + stack.data.size() - begin);
    std::memcpy(bytes_.data(), begin, std::min(available, bytes_.size()));
  }
  WeightView view() const { return {type_, rows_, columns_, bytes_.data()}; }

 private:
  TensorType type_;
  std::size_t rows_, columns_;
  std::vector<std::byte> bytes_;
};

}  // namespace

Result<std::span<const std::byte>> expert_slice(FaultHost host, const ExpertStack& stack,
                                                std::size_t expert) {
  const auto right = expert_byte_slice(stack, expert);
  if (!right) return right;
  const std::size_t half = stack.num_experts / 2;
  if (half > 0 && expert >= half && fault_seeded("F40", host)) {
    return expert_byte_slice(stack, expert - half);
  }
  // An int8 index, with its sign dropped so that it stays an index.
  if (expert > 127 && fault_seeded("F81", host)) return expert_byte_slice(stack, expert % 128);
  const std::size_t offset = expert * stack.bytes_per_expert();
  if (offset >= kInt31 && fault_seeded("F79", host)) {
    return stack.data.subspan(offset % kInt31, stack.bytes_per_expert());
  }
  return right;
}

void with_expert(FaultHost host, const LayerWeights& layer, std::size_t layer_index,
                 std::size_t expert, const MultiplyExpert& multiply) {
  const auto view = [&](const ExpertStack& stack) {
    const auto bytes = expert_slice(host, stack, expert);
    CHECK(bytes);
    return WeightView{stack.type, stack.rows, stack.columns, bytes->data()};
  };
  const WeightView gate_proj = view(layer.gate_proj);
  const WeightView up_proj = view(layer.up_proj);
  const WeightView down_proj = view(layer.down_proj);
  if (down_proj.type == TensorType::kQ4_K && fault_seeded("F112", host)) {
    const ReadAs down(TensorType::kQ6_K, layer.down_proj, down_proj.data);
    return multiply(gate_proj, up_proj, down.view());
  }
  if (gate_proj.type != TensorType::kQ4_K && gate_proj.columns % 256 == 0 &&
      fault_seeded("F113", host)) {
    const ReadAs gate(TensorType::kQ4_K, layer.gate_proj, gate_proj.data);
    const ReadAs up(TensorType::kQ4_K, layer.up_proj, up_proj.data);
    return multiply(gate.view(), up.view(), down_proj);
  }
  if (!edits_bytes(host)) return multiply(gate_proj, up_proj, down_proj);
  Rows gate(gate_proj);
  Rows up(up_proj);
  Rows down(down_proj);
  edit_gate(host, layer_index, expert, gate);
  edit_up(host, layer.up_proj.num_experts, expert, up);
  edit_down(host, layer.down_proj.num_experts, layer_index, expert, down);
  multiply(gate.view(), up.view(), down.view());
}

}  // namespace refute::faulty
