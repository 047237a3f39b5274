#include "falsifiers/memory_fits_device.h"

#include <gtest/gtest.h>

#include "tests/falsifiers/broken_session.h"
#include "tests/falsifiers/pack_fixture.h"

namespace refute {
namespace {

class DeviceBackend : public FaultySessionBackend {
 public:
  explicit DeviceBackend(const Backend& inner) : FaultySessionBackend(inner, SessionFaults{}) {}

  std::optional<MemoryUse> memory_use(const Model& /*model*/,
                                      std::size_t /*capacity*/) const override {
    return memory;
  }

  std::optional<MemoryUse> memory;
};

TEST(MemoryFitsDevice, ComparesWhatIsUsedWithWhatThereIs) {
  const LoadedPack loaded("nano");
  const auto cpu = cpu_backend();
  DeviceBackend device(*cpu);
  const std::size_t weights = loaded.model.weight_bytes();
  device.memory = MemoryUse{95'000'000, 100'000'000, weights};
  EXPECT_TRUE(held(run(memory_fits_device_info(), device, loaded)));
  device.memory = MemoryUse{95'000'001, 100'000'000, weights};
  EXPECT_TRUE(refuted_by(run(memory_fits_device_info(), device, loaded), "used_over_total",
                         "95000001 of 100000000 bytes"));
}

TEST(MemoryFitsDevice, WeightsThatGrowOnUploadAreRefuted) {
  const LoadedPack loaded("nano");
  const auto cpu = cpu_backend();
  DeviceBackend device(*cpu);
  const std::size_t weights = loaded.model.weight_bytes();
  device.memory = MemoryUse{50'000'000, 100'000'000, weights + weights / 50};
  EXPECT_TRUE(refuted_by(run(memory_fits_device_info(), device, loaded), "weights_growth", ""));
  device.memory = MemoryUse{50'000'000, 100'000'000, 0};
  EXPECT_EQ(run(memory_fits_device_info(), device, loaded).kind, VerdictKind::kRefuted);
}

TEST(MemoryFitsDevice, LessThanTheWeightsIsNotBelieved) {
  const LoadedPack loaded("nano");
  const auto cpu = cpu_backend();
  DeviceBackend device(*cpu);
  device.memory = MemoryUse{1000, 100'000'000, loaded.model.weight_bytes()};
  EXPECT_EQ(run(memory_fits_device_info(), device, loaded).kind, VerdictKind::kRefuted);
}

TEST(MemoryFitsDevice, WithoutADeviceNothingIsClaimed) {
  const LoadedPack loaded("nano");
  EXPECT_EQ(run(memory_fits_device_info(), *cpu_backend(), loaded).kind, VerdictKind::kNotRun);
}

}  // namespace
}  // namespace refute
