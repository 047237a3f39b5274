// Every fault of the catalogue that has a site: seeded on a host, it changes what that host
// computes (equivalent ones by rounding at most), and nothing of what the other one does.
#include "kernels/faults.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "engine/backend_cuda.h"
#include "falsifiers/fault_catalogue.h"
#include "tests/faults/probes.h"

namespace refute {

bool same_outcome(const Outcome& a, const Outcome& b) {
  return a.errors == b.errors && a.values.size() == b.values.size() &&
         std::memcmp(a.values.data(), b.values.data(), a.values.size() * sizeof(double)) == 0;
}

double largest_difference(const Outcome& a, const Outcome& b) {
  constexpr double kInfinite = std::numeric_limits<double>::infinity();
  if (a.errors != b.errors || a.values.size() != b.values.size()) return kInfinite;
  double largest = 0.0;
  double difference = 0.0;
  for (std::size_t i = 0; i < a.values.size(); ++i) {
    if (std::isnan(a.values[i]) && std::isnan(b.values[i])) continue;
    if (a.values[i] == b.values[i] && std::isinf(a.values[i])) continue;
    if (!std::isfinite(a.values[i]) || !std::isfinite(b.values[i])) return kInfinite;
    largest = std::max(largest, std::abs(a.values[i]));
    difference = std::max(difference, std::abs(a.values[i] - b.values[i]));
  }
  return difference > 0.0 ? difference / largest : 0.0;
}

namespace {

struct FaultCase {
  const FaultInfo* fault;
  BackendId host;
};
void PrintTo(const FaultCase& seeded, std::ostream* out) {
  *out << seeded.fault->id << " on " << backend_name(seeded.host);
}

// Null without a device.
const Backend* cuda_backend() {
  static const auto cuda = make_cuda_backend();
  return cuda ? cuda->get() : nullptr;
}

// On this machine.
std::vector<FaultCase> cases() {
  std::vector<FaultCase> all;
  for (const FaultInfo& fault : fault_catalogue()) {
    for (const BackendId host : fault.hosts) {
      if (host == BackendId::kCuda && cuda_backend() == nullptr) continue;
      all.push_back({&fault, host});
    }
  }
  return all;
}

const std::vector<FaultProbe>& probes() {
  static const std::vector<FaultProbe> all = [] {
    std::vector<FaultProbe> joined = op_probes();
    for (FaultProbe& probe : model_probes()) joined.push_back(std::move(probe));
    return joined;
  }();
  return all;
}

// All that show a fault: one for each of its sites that the others don't reach.
std::vector<const FaultProbe*> probes_of(std::string_view id) {
  std::vector<const FaultProbe*> found;
  for (const FaultProbe& probe : probes()) {
    if (probe.id == id) found.push_back(&probe);
  }
  return found;
}

// The emulated oracle, which has every site of the exact one.
const Backend& backend(BackendId id) {
  static const auto oracle = make_oracle_backend(ActivationScheme::kEmulatedInt8);
  static const auto cpu = make_cpu_backend(cpu::Context::create(2).value());
  if (id == BackendId::kCuda) return *cuda_backend();
  return id == BackendId::kOracle ? *oracle : *cpu;
}

FaultHost fault_host(BackendId id) {
  if (id == BackendId::kCuda) return FaultHost::kCuda;
  return id == BackendId::kOracle ? FaultHost::kOracle : FaultHost::kCpu;
}

// Faults of loading a model, which both backends share.
bool is_of_the_loader(const FaultInfo& fault) {
  return fault.place.starts_with("engine/model_config.cc");
}

// With one probe.
void expect_change_of_its_host_alone(const FaultInfo& fault, BackendId host,
                                     const FaultProbe* probe) {
  const BackendId other = host == BackendId::kOracle ? BackendId::kCpu : BackendId::kOracle;
  const Outcome right = probe->probe(backend(host));
  const Outcome other_right = probe->probe(backend(other));
  ASSERT_TRUE(same_outcome(right, probe->probe(backend(host)))) << "not repeatable";

  const SeededFault seeded(FaultId(fault.id.data(), fault.id.size()), fault_host(host));
  const Outcome other_seeded = probe->probe(backend(other));
  if (is_of_the_loader(fault)) {
    EXPECT_FALSE(same_outcome(other_right, other_seeded));
  } else {
    EXPECT_TRUE(same_outcome(other_right, other_seeded)) << "changes " << backend_name(other);
    EXPECT_EQ(seeded.hits(), 0u) << backend_name(other) << " asks for this host's fault";
  }
  const Outcome wrong = probe->probe(backend(host));
  EXPECT_GT(seeded.hits(), 0u);
  if (fault.kind == FaultKind::kEquivalent) {
    const double bound = host == BackendId::kOracle ? probe->oracle_bound : probe->float32_bound;
    const double difference = largest_difference(right, wrong);
    EXPECT_TRUE(difference <= bound) << difference << " is above " << bound;
  } else {
    EXPECT_FALSE(same_outcome(right, wrong)) << "no effect";
  }
}

class SeededFaults : public testing::TestWithParam<FaultCase> {};

TEST_P(SeededFaults, ChangeTheirHostAlone) {
  const FaultInfo& fault = *GetParam().fault;
  if (fault.id == "F91" && cpu::best_isa() == cpu::Isa::kPortable) {
    GTEST_SKIP() << "this machine has no vectorised path";
  }
  const auto shown_by = probes_of(fault.id);
  ASSERT_FALSE(shown_by.empty()) << "no probe shows this fault";
  for (std::size_t i = 0; i < shown_by.size(); ++i) {
    SCOPED_TRACE("probe " + std::to_string(i));
    expect_change_of_its_host_alone(fault, GetParam().host, shown_by[i]);
  }
}

// The same wrong result wherever a fault is seeded: within what float32 may differ from float64,
// far below what the fault itself changes.
TEST(SeededFault, DoesTheSameOnBothHosts) {
  std::size_t compared = 0;
  for (const FaultInfo& fault : fault_catalogue()) {
    // F1 rounds after every addition, and the hosts add in different orders.
    const auto hosted = [&](BackendId host) {
      return std::ranges::find(fault.hosts, host) != fault.hosts.end();
    };
    if (!hosted(BackendId::kOracle) || !hosted(BackendId::kCpu) || fault.id == "F1") continue;
    for (const FaultProbe& probe : op_probes()) {
      if (probe.id != fault.id) continue;
      std::vector<Outcome> outcomes;
      for (const BackendId host : {BackendId::kOracle, BackendId::kCpu}) {
        const SeededFault seeded(FaultId(fault.id.data(), fault.id.size()), fault_host(host));
        outcomes.push_back(probe.probe(backend(host)));
      }
      const double difference = largest_difference(outcomes[0], outcomes[1]);
      EXPECT_TRUE(difference <= 1e-5) << fault.id << ": " << difference;
      ++compared;
    }
  }
  EXPECT_GT(compared, 70u);
}

INSTANTIATE_TEST_SUITE_P(Catalogue, SeededFaults, testing::ValuesIn(cases()),
                         [](const testing::TestParamInfo<FaultCase>& tested) {
                           return std::string(tested.param.fault->id) + "_" +
                                  std::string(backend_name(tested.param.host));
                         });

TEST(SeededFault, IsSeededOnlyWhileItLives) {
  const FaultProbe* const probe = probes_of("F22").at(0);
  const Outcome before = probe->probe(backend(BackendId::kCpu));
  { const SeededFault seeded("F22", FaultHost::kCpu); }
  EXPECT_TRUE(same_outcome(before, probe->probe(backend(BackendId::kCpu))));
}

TEST(FaultCoverage, RemembersSitesAndChangesNothing) {
  for (const BackendId host : {BackendId::kOracle, BackendId::kCpu}) {
    const FaultProbe* const q4_k = probes_of("F2").at(0);
    const Outcome right = q4_k->probe(backend(host));
    const FaultCoverage coverage;
    EXPECT_TRUE(same_outcome(right, q4_k->probe(backend(host)))) << backend_name(host);
    EXPECT_TRUE(coverage.reached("F2", fault_host(host)));
    EXPECT_TRUE(coverage.reached("F8", fault_host(host)));
    EXPECT_FALSE(coverage.reached("F9", fault_host(host)));
    EXPECT_FALSE(coverage.reached("F22", fault_host(host)));
  }
}

}  // namespace
}  // namespace refute
