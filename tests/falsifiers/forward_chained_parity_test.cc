#include "falsifiers/forward_chained_parity.h"

#include <gtest/gtest.h>

#include <cmath>
#include <utility>

#include "tests/falsifiers/broken_session.h"
#include "tests/falsifiers/pack_fixture.h"

namespace refute {
namespace {

TEST(ForwardChainedParity, HoldsOnTheCpuBackendOfEveryPack) {
  for (const char* name : kPackNames) {
    const LoadedPack loaded(name);
    EXPECT_TRUE(held(run(forward_chained_parity_info(), *cpu_backend(), loaded))) << name;
  }
}

// F65: attention scores over head_dim in place of its root.
class WrongAttentionScale : public FaultySessionBackend {
 public:
  explicit WrongAttentionScale(const Backend& inner) : FaultySessionBackend(inner, {}) {}

  Result<Matrix<double>> attention(const AttentionShape& shape, MatrixView<const double> q,
                                   MatrixView<const double> k, MatrixView<const double> v,
                                   std::size_t first_position) const override {
    Matrix<double> scaled(q.rows, q.columns, {q.flat().begin(), q.flat().end()});
    for (double& value : scaled.flat()) value /= std::sqrt(static_cast<double>(shape.head_dim));
    return FaultySessionBackend::attention(shape, std::as_const(scaled).view(), k, v,
                                           first_position);
  }
};

TEST(ForwardChainedParity, AWrongAttentionScaleIsRefutedInItsBlock) {
  const LoadedPack loaded("tiny");
  const auto cpu = cpu_backend();
  const WrongAttentionScale broken(*cpu);
  EXPECT_TRUE(refuted_by(run(forward_chained_parity_info(), broken, loaded), "block_relative_l2",
                         "blk.0.attn_out (block)"));
}

TEST(ForwardChainedParity, WrongRopeThetaInTheChainIsRefuted) {  // F52
  const LoadedPack loaded("kjv-moe-7m");
  const ChangedModel changed(loaded.model, wrong_rope_theta());
  SessionFaults faults;
  faults.runs = &changed.model();
  const auto cpu = cpu_backend();
  const FaultySessionBackend broken(*cpu, faults);
  EXPECT_TRUE(refuted_by(run(forward_chained_parity_info(), broken, loaded), "chain_relative_l2",
                         "blk.0.q_rope (chained)"));
}

}  // namespace
}  // namespace refute
