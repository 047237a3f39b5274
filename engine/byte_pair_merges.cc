// Ids are nodes of a doubly linked list; a heap holds the pairs that may merge. A merge changes two
// pairs, which are pushed anew; their old entries stay in the heap and are recognised when popped,
// because the ids that they were made for are no longer there.
#include "engine/byte_pair_merges.h"

#include <queue>
#include <tuple>

#include "kernels/check.h"

namespace refute {
namespace {

constexpr std::size_t kNone = static_cast<std::size_t>(-1);
constexpr std::int32_t kMergedAway = -1;

struct Node {
  std::int32_t id;  // kMergedAway once it is part of its left neighbour.
  std::size_t previous;
  std::size_t next;
};

struct Candidate {
  std::size_t rank;
  std::size_t position;  // Node of the left id.
  std::int32_t left;
  std::int32_t right;
  std::int32_t merged;

  // The heap's top is the greatest: lowest rank, then leftmost.
  bool operator<(const Candidate& other) const {
    return std::tie(other.rank, other.position) < std::tie(rank, position);
  }
};

std::uint64_t pair_key(std::int32_t left, std::int32_t right) {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
         static_cast<std::uint32_t>(right);
}

}  // namespace

void MergeTable::insert(std::int32_t left, std::int32_t right, std::size_t rank,
                        std::int32_t merged) {
  CHECK(left >= 0 && right >= 0 && merged >= 0);
  CHECK(merged != left && merged != right);
  merges_.try_emplace(pair_key(left, right), Merge{rank, merged});
}

const MergeTable::Merge* MergeTable::find(std::int32_t left, std::int32_t right) const {
  const auto found = merges_.find(pair_key(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

void MergeTable::apply(std::vector<std::int32_t>& ids) const {
  if (ids.size() < 2) return;
  std::vector<Node> nodes(ids.size());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    nodes[i] = {ids[i], i == 0 ? kNone : i - 1, i + 1 == ids.size() ? kNone : i + 1};
  }
  std::priority_queue<Candidate> candidates;
  const auto push_pair_at = [&](std::size_t position) {
    if (position == kNone || nodes[position].next == kNone) return;
    const std::int32_t left = nodes[position].id;
    const std::int32_t right = nodes[nodes[position].next].id;
    const Merge* merge = find(left, right);
    if (merge != nullptr) {
      candidates.push({merge->rank, position, left, right, merge->merged});
    }
  };
  for (std::size_t i = 0; i < nodes.size(); ++i) push_pair_at(i);

  while (!candidates.empty()) {
    const Candidate best = candidates.top();
    candidates.pop();
    Node& left = nodes[best.position];
    if (left.id != best.left || left.next == kNone || nodes[left.next].id != best.right) continue;
    Node& right = nodes[left.next];
    left.id = best.merged;
    right.id = kMergedAway;
    left.next = right.next;
    if (right.next != kNone) nodes[right.next].previous = best.position;
    push_pair_at(left.previous);
    push_pair_at(best.position);
  }

  ids.clear();
  for (std::size_t i = 0; i != kNone; i = nodes[i].next) ids.push_back(nodes[i].id);
}

}  // namespace refute
