#include "falsifiers/memory_refuses_what_does_not_fit.h"

#include <gtest/gtest.h>

#include "tests/falsifiers/broken_session.h"
#include "tests/falsifiers/pack_fixture.h"

namespace refute {
namespace {

// The CPU with a device's memory, which is a number.
class DeviceBackend : public FaultySessionBackend {
 public:
  explicit DeviceBackend(const Backend& inner) : FaultySessionBackend(inner, SessionFaults{}) {}

  std::optional<std::size_t> memory_held() const override { return held; }
  Result<std::unique_ptr<Session>> open_session(const Model& model,
                                                std::size_t capacity) const override {
    if (capacity <= 4096) {
      if (refuses_all && refused) return refusal;
      return FaultySessionBackend::open_session(model, capacity);
    }
    held += left_behind;
    refused = true;
    return refusal;
  }

  mutable std::size_t held = 5000;
  mutable bool refused = false;
  std::size_t left_behind = 0;
  bool refuses_all = false;
  Error refusal{ErrorKind::kOutOfMemory, "open_session", "9000 bytes of device memory",
                "8000 free of 10000"};
};

class MemoryRefuses : public testing::Test {
 protected:
  Verdict verdict() const { return run(memory_refuses_what_does_not_fit_info(), device_, loaded_); }

  LoadedPack loaded_{"nano"};
  std::unique_ptr<Backend> cpu_ = cpu_backend();
  DeviceBackend device_{*cpu_};
};

TEST_F(MemoryRefuses, HoldsWhereNothingIsLeftBehind) { EXPECT_TRUE(held(verdict())); }

TEST_F(MemoryRefuses, WhatWasUploadedBeforeTheRefusalIsSeen) {
  device_.left_behind = 1;
  EXPECT_TRUE(refuted_by(verdict(), "bytes_left_behind", "5000 bytes before, 5001 after"));
}

TEST_F(MemoryRefuses, TheErrorMustSayNeedAndHave) {
  device_.refusal.kind = ErrorKind::kInvalidShape;
  EXPECT_EQ(verdict().kind, VerdictKind::kRefuted);
  device_.refusal = {ErrorKind::kOutOfMemory, "open_session", "memory", "none"};
  EXPECT_EQ(verdict().kind, VerdictKind::kRefuted);
  device_.refusal = {ErrorKind::kOutOfMemory, "open_session", "9000 bytes", "9001 free"};
  EXPECT_EQ(verdict().kind, VerdictKind::kRefuted);
}

TEST_F(MemoryRefuses, WhatFitsMustStillOpen) {
  device_.refuses_all = true;
  EXPECT_EQ(verdict().kind, VerdictKind::kRefuted);
}

TEST_F(MemoryRefuses, WithoutADeviceNothingIsClaimed) {
  EXPECT_EQ(run(memory_refuses_what_does_not_fit_info(), *cpu_, loaded_).kind,
            VerdictKind::kNotRun);
}

}  // namespace
}  // namespace refute
