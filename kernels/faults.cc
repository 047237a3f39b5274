#include "kernels/faults.h"

#include <array>
#include <atomic>

#include "kernels/check.h"

namespace refute {
namespace {

constexpr int kHosts = 4;
constexpr int kCodes = 2000 * kHosts;
constexpr int kNone = -1;
constexpr int kCovering = -2;

// State of the process, on purpose: a site deep in a kernel has no argument to be told through, and
// only the build that is made for seeding faults has it.
std::atomic<int> seeded = kNone;
std::atomic<std::uint64_t> hit_count = 0;
std::array<std::atomic<bool>, kCodes> covered;

int key_of(FaultId fault, FaultHost host) {
  CHECK(fault.valid());
  return fault.code() * kHosts + static_cast<int>(host);
}

void change_state(int from, int to) { CHECK(seeded.compare_exchange_strong(from, to)); }

}  // namespace

bool fault_armed(FaultId fault, FaultHost host) {
  const int state = seeded.load(std::memory_order_relaxed);
  return state == kCovering || state == fault.code() * kHosts + static_cast<int>(host);
}

bool fault_seeded(FaultId fault, FaultHost host) {
  const int state = seeded.load(std::memory_order_relaxed);
  if (state == kNone) return false;
  const int key = fault.code() * kHosts + static_cast<int>(host);
  if (state == kCovering) {
    covered[static_cast<std::size_t>(key)].store(true, std::memory_order_relaxed);
    return false;
  }
  if (state != key) return false;
  hit_count.fetch_add(1, std::memory_order_relaxed);
  return true;
}

SeededFault::SeededFault(FaultId fault, FaultHost host) {
  hit_count = 0;
  change_state(kNone, key_of(fault, host));
}

SeededFault::~SeededFault() { seeded = kNone; }

std::uint64_t SeededFault::hits() const { return hit_count; }

FaultCoverage::FaultCoverage() {
  for (auto& flag : covered) flag = false;
  change_state(kNone, kCovering);
}

FaultCoverage::~FaultCoverage() { seeded = kNone; }

bool FaultCoverage::reached(FaultId fault, FaultHost host) const {
  return covered[static_cast<std::size_t>(key_of(fault, host))];
}

}  // namespace refute
