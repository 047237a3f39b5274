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
std::atomic<bool> cpu_is_cuda = false;
std::atomic<std::uint64_t> epoch = 0;

int key_of(FaultId fault, FaultHost host) {
  CHECK(fault.valid());
  return fault.code() * kHosts + static_cast<int>(host);
}

void change_state(int from, int to) {
  CHECK(seeded.compare_exchange_strong(from, to));
  ++epoch;
}

int site_key(FaultId fault, FaultHost host) {
  const bool stands_in = host == FaultHost::kCpu && cpu_is_cuda.load(std::memory_order_relaxed);
  return fault.code() * kHosts + static_cast<int>(stands_in ? FaultHost::kCuda : host);
}

}  // namespace

bool fault_armed(FaultId fault, FaultHost host) {
  const int state = seeded.load(std::memory_order_relaxed);
  return state == kCovering || state == site_key(fault, host);
}

bool any_fault_armed(FaultHost host) {
  const int state = seeded.load(std::memory_order_relaxed);
  return state == kCovering || (state >= 0 && state % kHosts == static_cast<int>(host));
}

bool fault_seeded(FaultId fault, FaultHost host) {
  const int state = seeded.load(std::memory_order_relaxed);
  if (state == kNone) return false;
  const int key = site_key(fault, host);
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

SeededFault::~SeededFault() {
  seeded = kNone;
  ++epoch;
}

std::uint64_t SeededFault::hits() const { return hit_count; }

FaultCoverage::FaultCoverage() {
  for (auto& flag : covered) flag = false;
  change_state(kNone, kCovering);
}

FaultCoverage::~FaultCoverage() {
  seeded = kNone;
  ++epoch;
}

CpuStandsInForCuda::CpuStandsInForCuda() : before_(hit_count) {
  CHECK(!cpu_is_cuda.exchange(true));
}

CpuStandsInForCuda::~CpuStandsInForCuda() { cpu_is_cuda = false; }

std::uint64_t CpuStandsInForCuda::hits() const { return hit_count - before_; }

std::uint64_t fault_epoch() { return epoch; }

bool FaultCoverage::reached(FaultId fault, FaultHost host) const {
  return covered[static_cast<std::size_t>(key_of(fault, host))];
}

}  // namespace refute
