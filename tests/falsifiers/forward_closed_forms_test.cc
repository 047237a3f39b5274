#include "falsifiers/forward_closed_forms.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <string_view>

#include "tests/falsifiers/synthetic_expectations.h"

namespace refute {
namespace {

TEST(ForwardClosedForms, HoldsOnTheReference) { expect_held(forward_closed_forms_info()); }

void expect_trace_fault_refuted(TracePoint point, std::string_view metric,
                                std::function<void(Matrix<double>&)> change) {
  SessionFaults faults;
  faults.alter_trace = [=](const BrokenCall&, TraceSite site, Matrix<double>* values) {
    if (site.point == point && site.layer == 0) change(*values);
  };
  expect_faults_refuted(forward_closed_forms_info(), faults, metric);
}

TEST(ForwardClosedForms, RefutesAFirstTokenThatSeesMoreThanItself) {  // F62
  expect_trace_fault_refuted(TracePoint::kAttnHeads, "foreign_values",
                             [](Matrix<double>& heads) { heads(0, 5) *= 1.001; });
}

TEST(ForwardClosedForms, RefutesAMeanThatLeavesOutTheOwnToken) {  // F63
  expect_trace_fault_refuted(TracePoint::kAttnHeads, "mean_error", [](Matrix<double>& heads) {
    if (heads.rows() > 1)
      std::ranges::copy(heads.row(heads.rows() - 2), heads.row(heads.rows() - 1).begin());
  });
}

// Without its norm q passes its scale on; here by the trace of what attention gives.
TEST(ForwardClosedForms, RefutesAttentionThatFollowsTheScaleOfQ) {  // F58
  SessionFaults faults;
  const auto scale = std::make_shared<double>(0.0);
  faults.alter_trace = [scale](const BrokenCall&, TraceSite site, Matrix<double>* values) {
    if (site.point == TracePoint::kQ) {
      *scale = 0.0;
      for (const double value : values->flat()) *scale = std::max(*scale, std::abs(value));
    }
    if (site.point != TracePoint::kAttnHeads) return;
    for (std::size_t t = 1; t < values->rows(); ++t) {
      for (double& value : values->row(t)) value *= 1.0 + 0.01 * *scale;
    }
  };
  expect_faults_refuted(forward_closed_forms_info(), faults, "");
}

TEST(ForwardClosedForms, RefutesAMissingResidual) {  // F44
  SessionFaults faults;
  const auto residual = std::make_shared<Matrix<double>>();
  faults.alter_trace = [residual](const BrokenCall&, TraceSite site, Matrix<double>* values) {
    if (site.point == TracePoint::kMoeOut) *residual = *values;
    if (site.point == TracePoint::kFfnResidual) *values = *residual;
  };
  expect_faults_refuted(forward_closed_forms_info(), faults, "residual_change");
}

TEST(ForwardClosedForms, RefutesABackendThatIgnoresItsWeights) {
  const Model fixed = load_model(pack_path("nano", ".gguf"));
  SessionFaults faults;
  faults.runs = &fixed;
  faults.runs_for_all = true;
  const auto cpu = cpu_backend();
  const Verdict verdict =
      run_falsifier(forward_closed_forms_info(), FaultySessionBackend(*cpu, faults));
  EXPECT_EQ(verdict.kind, VerdictKind::kRefuted) << verdict.reason;
}

}  // namespace
}  // namespace refute
