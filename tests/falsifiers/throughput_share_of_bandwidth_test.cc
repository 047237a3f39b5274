#include "falsifiers/throughput_share_of_bandwidth.h"

#include <gtest/gtest.h>

#include "tests/falsifiers/broken_session.h"
#include "tests/falsifiers/pack_fixture.h"

namespace refute {
namespace {

class DeviceBackend : public FaultySessionBackend {
 public:
  explicit DeviceBackend(const Backend& inner) : FaultySessionBackend(inner, SessionFaults{}) {}

  std::optional<double> measure_read_bandwidth() const override { return bandwidth; }

  std::optional<double> bandwidth;
};

TEST(ThroughputShareOfBandwidth, TooSlowAndTooGoodAreBothRefuted) {
  const LoadedPack loaded("nano");
  const auto cpu = cpu_backend();
  DeviceBackend device(*cpu);
  device.bandwidth = 1e15;  // A device this fast is hardly used.
  EXPECT_TRUE(refuted_by(run(throughput_share_of_bandwidth_info(), device, loaded), "share", ""));
  device.bandwidth = 1.0;  // More bytes than the bandwidth allows.
  EXPECT_TRUE(refuted_by(run(throughput_share_of_bandwidth_info(), device, loaded),
                         "impossible_share", ""));
}

TEST(ThroughputShareOfBandwidth, WithoutABandwidthNothingIsClaimed) {
  const LoadedPack loaded("nano");
  const auto cpu = cpu_backend();
  EXPECT_EQ(run(throughput_share_of_bandwidth_info(), DeviceBackend(*cpu), loaded).kind,
            VerdictKind::kNotRun);
}

}  // namespace
}  // namespace refute
