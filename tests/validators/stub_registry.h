// A registry of three falsifiers and the real fault catalogue, for tests of the contract rules.
#pragma once

#include <array>

#include "falsifiers/falsifier.h"
#include "falsifiers/fault_catalogue.h"
#include "validators/rules_check.h"

namespace refute {

inline Verdict falsify_nothing(const Subject& /*subject*/, const Criterion& /*criterion*/) {
  return Verdict::not_run("a stub");
}

inline constexpr std::array<MetricInfo, 2> kStubParityMetrics = {{
    {"relative_l2", "Relative error of the tensor.", false, 5e-6},
    {"cosine_worst_row", "Cosine of the worst row.", true, 0.99},
}};
inline constexpr std::array<MetricInfo, 1> kStubSumMetrics = {{
    {"sum_error", "Distance of the sum of weights from 1.", false, 1e-6},
}};
inline constexpr std::array<MetricInfo, 1> kStubBitsMetrics = {{
    {"differing_bits", "Bits that differ between repeats.", false, 0.0},
}};
inline constexpr std::array<BackendId, 2> kStubCpuBackends = {BackendId::kOracle, BackendId::kCpu};

inline constexpr std::array<FalsifierInfo, 3> kStubFalsifiers = {{
    {"determinism.repeats_are_bitwise_equal", "16 repeats differ in no bit.", "", "", "", "",
     kStubBitsMetrics, kAllBackends, false, false, falsify_nothing},
    {"matmul.matches_oracle", "Relative L2 at most 5e-6.", "", "", "", "", kStubParityMetrics,
     kAllBackends, false, false, falsify_nothing},
    {"router.weights_sum_to_one", "Weights sum to 1 within 1e-6.", "", "", "", "", kStubSumMetrics,
     kStubCpuBackends, false, false, falsify_nothing},
}};

inline RuleContext stub_context() {
  RuleContext context;
  context.falsifiers = kStubFalsifiers;
  context.faults = fault_catalogue();
  return context;
}

}  // namespace refute
