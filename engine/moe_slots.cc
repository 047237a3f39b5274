#include "engine/moe_slots.h"

#include "kernels/faults.h"

namespace refute {

SlotGrouping group_slots_by_expert(MatrixView<const std::int32_t> ids, std::size_t num_experts) {
  std::vector<std::size_t> next(num_experts, 0);  // How many slots; then where the next one goes.
  for (const std::int32_t id : std::span(ids.data, ids.size())) {
    CHECK(id >= 0 && static_cast<std::size_t>(id) < num_experts);
    ++next[static_cast<std::size_t>(id)];
  }
  SlotGrouping grouping;
  std::size_t begin = 0;
  for (std::size_t expert = 0; expert < num_experts; ++expert) {
    const std::size_t end = begin + next[expert];
    if (begin < end) grouping.experts.push_back({expert, begin, end});
    next[expert] = begin;
    begin = end;
  }
  grouping.slots.resize(ids.size());
  for (std::size_t slot = 0; slot < ids.size(); ++slot) {
    grouping.slots[next[static_cast<std::size_t>(ids.data[slot])]++] = slot;
  }
  return grouping;
}

template <typename Real>
std::size_t scratch_offset(std::size_t row, std::size_t columns) {
  constexpr std::size_t kInt31 = std::size_t{1} << 31;
  const std::size_t offset = row * columns;
  if (offset >= kInt31 && fault_seeded("F80", kFaultHostOf<Real>)) return offset % kInt31;
  return offset;
}
template std::size_t scratch_offset<double>(std::size_t, std::size_t);
template std::size_t scratch_offset<float>(std::size_t, std::size_t);

}  // namespace refute
