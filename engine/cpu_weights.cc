// Memory of several pages is mapped, in huge pages where the system gives them: a token walks
// through all of it, and small pages would cost it a walk of the page tables every 4 KiB. Little
// models are packed by the thousand, so theirs comes from the heap.
#include "engine/cpu_weights.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <new>
#include <utility>

#include "kernels/check.h"
#include "kernels/cpu/tiles.h"

namespace refute::cpu {
namespace {

constexpr std::size_t kAlignment = 64;
constexpr std::size_t kHugePage = std::size_t{2} << 20;
// From here on memory is mapped.
constexpr std::size_t kMappedBytes = 2 * kHugePage;
// From here on a copy beside the file matters, and so does telling how far it is.
constexpr std::size_t kLargeBytes = std::size_t{512} << 20;
constexpr std::size_t kPieceBytes = std::size_t{1} << 20;  // Of one thread at a time.

std::size_t aligned(std::size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

std::byte* allocate(std::size_t bytes) {
  if (bytes == 0) return nullptr;
  if (bytes < kMappedBytes) {
    return static_cast<std::byte*>(operator new (bytes, std::align_val_t{kAlignment}));
  }
  void* const memory =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  madvise(memory, bytes, MADV_HUGEPAGE);  // A wish; without it the pages are small.
  return static_cast<std::byte*>(memory);
}

void deallocate(std::byte* memory, std::size_t bytes) {
  if (memory == nullptr) return;
  if (bytes < kMappedBytes) {
    operator delete (memory, std::align_val_t{kAlignment});
  } else {
    munmap(memory, bytes);
  }
}

// Gives back the whole pages of read-only file memory.
void drop_pages(const std::byte* begin, std::size_t bytes) {
  const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto from = (reinterpret_cast<std::uintptr_t>(begin) + page - 1) / page * page;
  const auto to = (reinterpret_cast<std::uintptr_t>(begin) + bytes) / page * page;
  if (from < to) madvise(reinterpret_cast<void*>(from), to - from, MADV_DONTNEED);
}

// How much is packed, told by the threads that did it.
class Progress {
 public:
  Progress(std::function<void(std::size_t, std::size_t)> tell, std::size_t total)
      : tell_(std::move(tell)), total_(total) {}
  void add(std::size_t bytes) {
    if (!tell_) return;
    const std::lock_guard lock(mutex_);
    done_ += bytes;
    tell_(done_, total_);
  }

 private:
  std::function<void(std::size_t, std::size_t)> tell_;
  std::size_t total_;
  std::mutex mutex_;
  std::size_t done_ = 0;  // Guarded by mutex_.
};

}  // namespace

Result<PackedWeights> PackedWeights::create(
    const Context& context, const Model& model,
    const std::function<void(std::size_t, std::size_t)>& progress) {
  PackedWeights packed;
  if (uses_tiles(context)) packed.allocate_tiles(model);
  Progress told(packed.is_large() ? progress : nullptr, packed.bytes_);
  if (model.scale_check() == ScaleCheck::kWhenOpened) {
    // One pass over the file: what was looked at is still in a cache when it is packed.
    const auto pack_rows = [&](const ScannedTensor& tensor, std::size_t begin, std::size_t end) {
      const auto range = std::ranges::find(packed.ranges_, tensor.rows.data, &Range::data);
      if (range == packed.ranges_.end()) return;
      const std::size_t groups_end = std::min(end, range->rows) / kTileRows;
      packed.pack(*range, begin / kTileRows, groups_end);
      told.add((groups_end - begin / kTileRows) * group_bytes(range->type, range->columns));
    };
    static_assert(kScannedRows % kTileRows == 0);
    const Result<void> finite = model.check_scales(context.threads().num_threads(), pack_rows);
    if (!finite) return finite.error();
    return packed;
  }
  for (const Range& range : packed.ranges_) {
    const std::size_t stored = kTileRows * row_bytes(range.type, range.columns);
    const std::size_t at_a_time = std::max<std::size_t>(1, kPieceBytes / stored);
    context.threads().parallel_for(range.rows / kTileRows, at_a_time,
                                   [&](std::size_t begin, std::size_t end) {
                                     for (std::size_t g = begin; g < end; g += at_a_time) {
                                       packed.pack(range, g, std::min(g + at_a_time, end));
                                     }
                                   });
    told.add(range.bytes());
  }
  return packed;
}

void PackedWeights::allocate_tiles(const Model& model) {
  for (const LayerWeights& layer : model.layers()) {
    for (const WeightView* weight :
         {&layer.q_proj, &layer.k_proj, &layer.v_proj, &layer.o_proj, &layer.router}) {
      add(*weight);
    }
    for (const ExpertStack* stack : {&layer.gate_proj, &layer.up_proj, &layer.down_proj}) {
      add(*stack);
    }
  }
  add(model.lm_head());
  std::ranges::sort(ranges_, {}, &Range::data);
  for (Range& range : ranges_) {
    range.offset = bytes_;
    bytes_ += aligned(range.bytes());
  }
  tiles_ = allocate(bytes_);
  if (tiles_ == nullptr) {  // No memory for a copy: the file's rows do, only more slowly.
    ranges_.clear();
    bytes_ = 0;
  }
}

bool PackedWeights::is_large() const { return bytes_ >= kLargeBytes; }

std::size_t PackedWeights::Range::bytes() const {
  return rows / kTileRows * group_bytes(type, columns);
}

PackedWeights::~PackedWeights() { deallocate(tiles_, bytes_); }

PackedWeights::PackedWeights(PackedWeights&& other) noexcept
    : ranges_(std::move(other.ranges_)),
      tiles_(std::exchange(other.tiles_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)) {}

PackedWeights& PackedWeights::operator=(PackedWeights&& other) noexcept {
  std::swap(ranges_, other.ranges_);
  std::swap(tiles_, other.tiles_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

void PackedWeights::add(const WeightView& weight) {
  const std::size_t rows = weight.rows / kTileRows * kTileRows;
  if (rows == 0 || !has_tiles(weight.type, weight.columns)) return;
  ranges_.push_back({weight.type, rows, weight.columns, weight.data, 0});
}

// Experts follow each other, so that whole groups make the stack one matrix.
void PackedWeights::add(const ExpertStack& stack) {
  if (stack.rows % kTileRows != 0) return;
  add(WeightView{stack.type, stack.num_experts * stack.rows, stack.columns, stack.data.data()});
}

void PackedWeights::pack(const Range& range, std::size_t begin, std::size_t end) {
  if (begin >= end) return;
  const std::size_t stored = kTileRows * row_bytes(range.type, range.columns);
  const std::size_t packed = group_bytes(range.type, range.columns);
  const std::byte* const rows = range.data + begin * stored;
  pack_tiles(range.type, end - begin, range.columns, rows, tiles_ + range.offset + begin * packed);
  if (is_large()) drop_pages(rows, (end - begin) * stored);
}

PlacedWeight PackedWeights::place(const WeightView& weight) const {
  const auto after = std::ranges::upper_bound(ranges_, weight.data, {}, &Range::data);
  if (after == ranges_.begin()) return {weight};
  const Range& range = *(after - 1);
  const auto offset = static_cast<std::size_t>(weight.data - range.data);
  const std::size_t stored = kTileRows * row_bytes(range.type, range.columns);
  const std::size_t group = offset / stored;
  const std::size_t groups = weight.rows / kTileRows;
  const bool fits = weight.type == range.type && weight.columns == range.columns && groups > 0 &&
                    offset % stored == 0 && group + groups <= range.rows / kTileRows;
  if (!fits) return {weight};
  return {weight, tiles_ + range.offset + group * group_bytes(range.type, range.columns)};
}

}  // namespace refute::cpu
