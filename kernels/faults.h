// Fault sites: places where a build made for it (REFUTE_FAULTS) computes something wrong on
// purpose, so that the falsifiers can be seen to fail. The catalogue of what each fault is:
// falsifiers/fault_catalogue.h.
//
//   if (norm_topk_prob && !fault_seeded("F22", kFaultHostOf<Real>)) { ... renormalise ... }
//   if constexpr (kFaultSites) faulty::spoil_rows(y);         // Longer ones: faulty/ of the
//   folder.
//
// At most one fault is seeded at a time, on one host, so that the reference that a falsifier
// compares with stays right. A site asks for its fault last, once everything else that the fault
// needs to have an effect is known to hold, so that a hit means an effect. In every other build
// fault_seeded is a constant false, and nothing of a site is left (a test looks for remains;
// consteval, so that not even a build without optimisation keeps one). Sites stand in source files
// and never in headers that other folders include: one object of those serves both builds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace refute {

// The backend that a site belongs to.
enum class FaultHost : std::uint8_t { kOracle, kCpu, kCuda, kWgpu };

// Of code that the oracle runs in float64 and the CPU in float32.
template <typename Real>
inline constexpr FaultHost kFaultHostOf =
    std::is_same_v<Real, double> ? FaultHost::kOracle : FaultHost::kCpu;

// The number of a fault of the catalogue, checked when compiled: "F22", "F107a".
class FaultId {
 public:
  // Text "F" digits ["a"].
  constexpr explicit FaultId(const char* text, std::size_t size) {
    std::size_t i = 1;
    valid_ = size > 1 && text[0] == 'F';
    for (; i < size && text[i] >= '0' && text[i] <= '9'; ++i)
      number_ = 10 * number_ + (text[i] - '0');
    valid_ = valid_ && i > 1 && number_ < 1000;
    number_ *= 2;
    if (i < size && text[i] == 'a') {
      ++number_;
      ++i;
    }
    valid_ = valid_ && i == size;
  }
  template <std::size_t kSize>
  consteval FaultId(const char (&text)[kSize]) : FaultId(text, kSize - 1) {
    if (!valid_) throw "a fault is named F and a number";
  }

  constexpr bool valid() const { return valid_; }
  constexpr int code() const { return number_; }  // Below 2000, in the order of the catalogue.
  constexpr bool operator==(const FaultId&) const = default;

 private:
  int number_ = 0;
  bool valid_ = false;
};

#ifdef REFUTE_FAULTS

constexpr bool kFaultSites = true;

// Whether this fault is seeded on this host, or every site is asked (FaultCoverage): for sites that
// find out with some effort whether the fault would have an effect. Counts nothing.
bool fault_armed(FaultId fault, FaultHost host);

// Whether this fault is seeded on this host; counts a hit when it is.
bool fault_seeded(FaultId fault, FaultHost host);

// Whether any fault is seeded on this host, or every site is asked.
bool any_fault_armed(FaultHost host);

// While it lives, the sites of the CPU are those of CUDA: the CPU's op stands in for the GPU's
// (engine/faulty/device.h). One at a time.
class CpuStandsInForCuda {
 public:
  CpuStandsInForCuda();
  ~CpuStandsInForCuda();
  CpuStandsInForCuda(const CpuStandsInForCuda&) = delete;
  CpuStandsInForCuda& operator=(const CpuStandsInForCuda&) = delete;

  std::uint64_t hits() const;  // How often the seeded fault's site was reached since.

 private:
  std::uint64_t before_;
};

// Grows whenever faults begin or cease to be seeded or asked for: what was computed in another
// epoch may hold another fault.
std::uint64_t fault_epoch();

// Seeds one fault on one host while it lives. Precondition: none is seeded.
class SeededFault {
 public:
  SeededFault(FaultId fault, FaultHost host);
  ~SeededFault();
  SeededFault(const SeededFault&) = delete;
  SeededFault& operator=(const SeededFault&) = delete;

  std::uint64_t hits() const;  // How often its site was reached so far.
};

// While it lives no fault is seeded, and every fault whose site is reached is remembered: which
// faults an attempt could see at all. Precondition: none is seeded.
class FaultCoverage {
 public:
  FaultCoverage();
  ~FaultCoverage();
  FaultCoverage(const FaultCoverage&) = delete;
  FaultCoverage& operator=(const FaultCoverage&) = delete;

  bool reached(FaultId fault, FaultHost host) const;
};

#else

constexpr bool kFaultSites = false;

consteval bool fault_seeded(FaultId, FaultHost) { return false; }
consteval std::uint64_t fault_epoch() { return 0; }

#endif

}  // namespace refute
