#include "falsifiers/provenance_executed_backend.h"

#include <gtest/gtest.h>

#include "tests/falsifiers/broken_session.h"
#include "tests/falsifiers/pack_fixture.h"

namespace refute {
namespace {

TEST(ProvenanceExecutedBackend, HoldsOnTheOracleOfEveryPack) {
  for (const char* name : kPackNames) {
    const LoadedPack loaded(name);
    EXPECT_TRUE(held(run(provenance_executed_backend_info(), *exact_oracle(), loaded))) << name;
  }
}

TEST(ProvenanceExecutedBackend, HoldsOnTheCpuBackendOfEveryPack) {
  for (const char* name : kPackNames) {
    const LoadedPack loaded(name);
    EXPECT_TRUE(held(run(provenance_executed_backend_info(), *cpu_backend(), loaded))) << name;
  }
}

TEST(ProvenanceExecutedBackend, ALayerOnAnotherBackendIsRefuted) {  // F87
  const LoadedPack loaded("nano");
  SessionFaults faults;
  faults.claims = BackendId::kCuda;
  const auto cpu = cpu_backend();
  const FaultySessionBackend broken(*cpu, faults);
  EXPECT_TRUE(refuted_by(run(provenance_executed_backend_info(), broken, loaded), "foreign_results",
                         "prefill, traced"));
}

TEST(ProvenanceExecutedBackend, AFallbackToTheOracleIsRefuted) {
  const LoadedPack loaded("nano");
  const auto oracle = exact_oracle();
  SessionFaults faults;
  faults.falls_back_to = oracle.get();
  const auto cpu = cpu_backend();
  const FaultySessionBackend broken(*cpu, faults);
  EXPECT_TRUE(refuted_by(run(provenance_executed_backend_info(), broken, loaded), "foreign_results",
                         "prefill, traced"));
}

TEST(ProvenanceExecutedBackend, AFallbackThatLiesIsRefutedByItsFloat64Values) {
  const LoadedPack loaded("nano");
  const auto oracle = exact_oracle();
  SessionFaults faults;
  faults.falls_back_to = oracle.get();
  faults.claims = BackendId::kCpu;
  const auto cpu = cpu_backend();
  const FaultySessionBackend broken(*cpu, faults);
  EXPECT_TRUE(refuted_by(run(provenance_executed_backend_info(), broken, loaded), "foreign_results",
                         "values that float32 cannot hold"));
}

TEST(ProvenanceExecutedBackend, ABackendThatReportsNothingIsRefuted) {
  const LoadedPack loaded("nano");
  SessionFaults faults;
  faults.reports_nothing = true;
  const auto cpu = cpu_backend();
  const FaultySessionBackend broken(*cpu, faults);
  EXPECT_TRUE(refuted_by(run(provenance_executed_backend_info(), broken, loaded), "foreign_results",
                         "prefill, traced"));
}

}  // namespace
}  // namespace refute
