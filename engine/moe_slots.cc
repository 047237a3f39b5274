#include "engine/moe_slots.h"

#include "kernels/faults.h"

namespace refute {

SlotGrouping group_slots_by_expert(MatrixView<const std::int32_t> ids, std::size_t num_experts) {
  std::vector<std::vector<std::size_t>> slots_of(num_experts);
  for (std::size_t slot = 0; slot < ids.size(); ++slot) {
    const std::int32_t id = ids.data[slot];
    CHECK(id >= 0 && static_cast<std::size_t>(id) < num_experts);
    slots_of[static_cast<std::size_t>(id)].push_back(slot);
  }
  SlotGrouping grouping;
  for (std::size_t expert = 0; expert < num_experts; ++expert) {
    if (slots_of[expert].empty()) continue;
    const std::size_t begin = grouping.slots.size();
    grouping.slots.insert(grouping.slots.end(), slots_of[expert].begin(), slots_of[expert].end());
    grouping.experts.push_back({expert, begin, grouping.slots.size()});
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
