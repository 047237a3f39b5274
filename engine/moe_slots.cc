#include "engine/moe_slots.h"

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

}  // namespace refute
