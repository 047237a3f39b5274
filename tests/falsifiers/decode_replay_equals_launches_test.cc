#include "falsifiers/decode_replay_equals_launches.h"

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <utility>

#include "tests/falsifiers/broken_session.h"
#include "tests/falsifiers/pack_fixture.h"

namespace refute {
namespace {

// What a recording backend may do wrong.
struct RecordingFaults {
  LaunchCounts counts{12, 12};
  // Sees and may change the logits of a replayed token. longest: of the calls so far.
  std::function<void(std::size_t longest, Matrix<double>*)> alter_replay;
  bool alters_greedy = false;
};

class RecordingSession : public Session {
 public:
  RecordingSession(std::unique_ptr<Session> inner, const RecordingFaults& faults)
      : inner_(std::move(inner)), faults_(faults) {}

  Result<Matrix<double>> forward(std::span<const std::int32_t> tokens,
                                 const ForwardOptions& options) override {
    auto logits = inner_->forward(tokens, options);
    const bool replays = tokens.size() == 1 && options.trace == nullptr;
    if (logits && replays && faults_.alter_replay) faults_.alter_replay(longest_, &*logits);
    if (!replays) longest_ = std::max(longest_, tokens.size());
    return logits;
  }
  Result<std::vector<std::int32_t>> decode_greedy(std::int32_t token, std::size_t count) override {
    auto tokens = inner_->decode_greedy(token, count);
    if (tokens && faults_.alters_greedy) tokens->back() ^= 1;
    return tokens;
  }
  std::optional<LaunchCounts> launch_counts() override { return faults_.counts; }
  Result<Matrix<double>> forward_unrecorded(std::int32_t token) override {
    return inner_->forward({&token, 1}, {});
  }
  std::size_t length() const override { return inner_->length(); }
  std::size_t capacity() const override { return inner_->capacity(); }
  Result<void> rollback(std::size_t length) override { return inner_->rollback(length); }
  void poison_unused() override { inner_->poison_unused(); }

 private:
  std::unique_ptr<Session> inner_;
  const RecordingFaults& faults_;
  std::size_t longest_ = 0;
};

class RecordingBackend : public FaultySessionBackend {
 public:
  RecordingBackend(const Backend& inner, RecordingFaults faults)
      : FaultySessionBackend(inner, SessionFaults{}), faults_(std::move(faults)) {}

  Result<std::unique_ptr<Session>> open_session(const Model& model,
                                                std::size_t capacity) const override {
    auto session = FaultySessionBackend::open_session(model, capacity);
    if (!session) return session.error();
    return std::unique_ptr<Session>(
        std::make_unique<RecordingSession>(*std::move(session), faults_));
  }

 private:
  RecordingFaults faults_;
};

class DecodeReplayEqualsLaunches : public testing::Test {
 protected:
  Verdict run_with(RecordingFaults faults) {
    const RecordingBackend backend(*cpu_, std::move(faults));
    return run(decode_replay_equals_launches_info(), backend, loaded_);
  }

  LoadedPack loaded_{"nano"};
  std::unique_ptr<Backend> cpu_ = cpu_backend();
};

TEST_F(DecodeReplayEqualsLaunches, HoldsWhereNothingDiffers) { EXPECT_TRUE(held(run_with({}))); }

TEST_F(DecodeReplayEqualsLaunches, ARecordingThatLacksALaunchIsRefuted) {
  EXPECT_TRUE(refuted_by(run_with({.counts = {11, 12}, .alter_replay = {}, .alters_greedy = false}),
                         "differing_launches", "11 replayed, 12 launched"));
}

TEST_F(DecodeReplayEqualsLaunches, OneBitOfAReplayIsRefuted) {
  RecordingFaults faults;
  faults.alter_replay = [](std::size_t, Matrix<double>* logits) {
    (*logits)(0, 3) = std::nextafter((*logits)(0, 3), 1e9);
  };
  EXPECT_TRUE(refuted_by(run_with(faults), "differing_elements", "replayed, token 0"));
}

// Recorded addresses of memory that moved when a call of more tokens came.
TEST_F(DecodeReplayEqualsLaunches, AReplayThatALongerCallBreaksIsRefuted) {
  RecordingFaults faults;
  faults.alter_replay = [](std::size_t longest, Matrix<double>* logits) {
    if (longest > 1) (*logits)(0, 0) += 1.0;
  };
  EXPECT_TRUE(
      refuted_by(run_with(faults), "differing_elements", "replayed after a longer call, token 14"));
}

TEST_F(DecodeReplayEqualsLaunches, AnotherGreedyTokenIsRefuted) {
  RecordingFaults faults;
  faults.alters_greedy = true;
  EXPECT_TRUE(refuted_by(run_with(faults), "differing_elements", "greedy tokens"));
}

TEST_F(DecodeReplayEqualsLaunches, ABackendThatRecordsNothingIsNotRun) {
  EXPECT_EQ(run(decode_replay_equals_launches_info(), *cpu_, loaded_).kind, VerdictKind::kNotRun);
}

}  // namespace
}  // namespace refute
