#include "falsifiers/throughput_share_of_bandwidth.h"

#include <gtest/gtest.h>

#include "tests/falsifiers/broken_session.h"
#include "tests/falsifiers/pack_fixture.h"

namespace refute {
namespace {

TEST(ThroughputShareOfBandwidth, TooSlowAndTooGoodAreBothRefuted) {
  const LoadedPack loaded("nano");
  const auto cpu = cpu_backend();
  // A device this fast is hardly used.
  EXPECT_TRUE(refuted_by(judge_throughput(*cpu, loaded.model, 1e15, {}), "share", ""));
  // More bytes than the bandwidth allows.
  EXPECT_TRUE(refuted_by(judge_throughput(*cpu, loaded.model, 1.0, {}), "impossible_share", ""));
}

TEST(ThroughputShareOfBandwidth, WithoutABandwidthNothingIsClaimed) {
  const LoadedPack loaded("nano");
  const auto cpu = cpu_backend();
  const FaultySessionBackend silent(*cpu, SessionFaults{});
  EXPECT_EQ(run(throughput_share_of_bandwidth_info(), silent, loaded).kind, VerdictKind::kNotRun);
}

}  // namespace
}  // namespace refute
