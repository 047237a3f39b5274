// The merge loop of byte pair encoding, over token ids.
#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

namespace refute {

class MergeTable {
 public:
  // Adjacent `left` and `right` become `merged`; the lower `rank` merges first. A pair inserted
  // again keeps its first entry. Preconditions: ids are not negative, and `merged` differs from
  // `left` and `right`.
  void insert(std::int32_t left, std::int32_t right, std::size_t rank, std::int32_t merged);

  // Number of pairs.
  std::size_t size() const { return merges_.size(); }

  // Merges the adjacent pair of lowest rank, the leftmost one where ranks are equal, until no
  // adjacent pair is in the table. O(n log n) for n ids.
  void apply(std::vector<std::int32_t>& ids) const;

 private:
  struct Merge {
    std::size_t rank;
    std::int32_t merged;
  };
  const Merge* find(std::int32_t left, std::int32_t right) const;

  std::unordered_map<std::uint64_t, Merge>
      merges_;  // Key: left in the high half, right in the low.
};

}  // namespace refute
