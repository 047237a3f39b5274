// Equivalent faults are another way to the same result: no falsifier may refute them.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>

#include "engine/backend.h"
#include "falsifiers/fault_catalogue.h"
#include "falsifiers/oracle_pack.h"
#include "falsifiers/registry.h"
#include "kernels/faults.h"

namespace refute {
namespace {

// The smallest pack: every falsifier but those of greedy texts and mean NLL.
struct PackSubject {
  PackSubject()
      : model(Model::load(path(".gguf")).value()),
        pack(OraclePack::load(path(".expected.gguf"), model.config()).value()) {}

  static std::string path(const std::string& ending) {
    return std::string(REFUTE_TEST_DATA) + "/packs/nano" + ending;
  }

  Model model;
  OraclePack pack;
};

void expect_all_hold(const Backend& backend, FaultId fault, FaultHost host) {
  static const PackSubject nano;
  Criterion criterion;
  criterion.seed = 1;
  std::size_t hits = 0;
  for (const FalsifierInfo& info : falsifier_registry()) {
    if (std::ranges::find(info.backends, backend.id()) == info.backends.end()) continue;
    if (info.lacking != nullptr && !info.lacking(nano.pack).empty()) continue;
    const SeededFault seeded(fault, host);
    const Verdict verdict = info.falsify({backend, &nano.model, &nano.pack}, criterion);
    if (seeded.hits() == 0) continue;  // What is right without the fault is no news here.
    ++hits;
    EXPECT_TRUE(verdict.held()) << info.id << ": " << verdict.reason;
  }
  EXPECT_GT(hits, 0u) << "no falsifier reaches this fault";
}

TEST(EquivalentFaults, LetEveryFalsifierHoldOnTheOracle) {
  const auto backend = make_oracle_backend(ActivationScheme::kExact);
  for (const FaultInfo& fault : fault_catalogue()) {
    if (fault.kind != FaultKind::kEquivalent) continue;
    if (std::ranges::find(fault.hosts, BackendId::kOracle) == fault.hosts.end()) continue;
    SCOPED_TRACE(std::string(fault.id));
    expect_all_hold(*backend, FaultId(fault.id.data(), fault.id.size()), FaultHost::kOracle);
  }
}

TEST(EquivalentFaults, LetEveryFalsifierHoldOnTheCpu) {
  const auto backend = make_cpu_backend(cpu::Context::create(2).value());
  for (const FaultInfo& fault : fault_catalogue()) {
    if (fault.kind != FaultKind::kEquivalent) continue;
    if (std::ranges::find(fault.hosts, BackendId::kCpu) == fault.hosts.end()) continue;
    SCOPED_TRACE(std::string(fault.id));
    expect_all_hold(*backend, FaultId(fault.id.data(), fault.id.size()), FaultHost::kCpu);
  }
}

}  // namespace
}  // namespace refute
