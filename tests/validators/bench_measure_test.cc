#include "validators/bench/measure.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <utility>

#include "kernels/cpu/context.h"
#include "tests/falsifiers/broken_backend.h"
#include "validators/bench/machine.h"

namespace refute {
namespace {

Model nano() { return Model::load(std::string(REFUTE_TEST_DATA) + "/packs/nano.gguf").value(); }

TEST(BenchMeasure, CountsWeightsAndTheCacheThatATokenReads) {
  const Model model = nano();
  const AttentionShape heads = model.config().attention_shape();
  const double weights = decode_bytes(model, 0.0);
  EXPECT_EQ(weights, static_cast<double>(model.bytes_per_token()));
  // Keys and values of two layers, two bytes each.
  const double row = 2.0 * 2.0 * 2.0 * static_cast<double>(heads.key_value_size());
  EXPECT_EQ(decode_bytes(model, 10.0) - weights, 10.0 * row);
}

TEST(BenchMeasure, TimesEveryRoundButTheOneThatWarmsUp) {
  const Model model = nano();
  const auto cpu = make_cpu_backend(std::move(cpu::Context::create(1)).value());
  std::size_t steps = 0;
  const auto point =
      measure_point(*cpu, model, 1, {.prompt = 3, .decode = 4, .depth = 2, .repeats = 5, .seed = 1},
                    [&](std::size_t done, std::size_t total) {
                      EXPECT_EQ(total, 6u);
                      steps = done;
                    });
  ASSERT_TRUE(point) << point.error().message();
  EXPECT_EQ(steps, 6u);
  EXPECT_EQ(point->prefill.seconds.size(), 5u);
  EXPECT_EQ(point->decode.tokens, 4u);
  // The decoded tokens read 6, 7, 8 and 9 positions.
  EXPECT_EQ(point->bytes_per_token, decode_bytes(model, 7.5));
  ASSERT_TRUE(point->share());
  EXPECT_GT(*point->share_of_best(), 0.0);
  EXPECT_GE(*point->share(), *point->share_of_best());
  const auto too_long = measure_point(*cpu, model, 1, {.prompt = 1u << 20}, [](auto, auto) {});
  ASSERT_FALSE(too_long);
  EXPECT_EQ(too_long.error().kind, ErrorKind::kContextFull);
}

// Its memory is twice as fast in every turn as in the one before.
class CountingBackend : public BrokenBackend {
 public:
  std::optional<ReadBandwidth> measure_read_bandwidth() const override {
    ++turns;
    if (turns <= empty_turns) return std::nullopt;
    rate *= 2.0;
    return ReadBandwidth{rate, 1.5 * rate};
  }
  int empty_turns = 0;
  mutable int turns = 0;
  mutable double rate = 1e12;
};

TEST(BenchMeasure, MeasuresTheBandwidthBehindEveryRound) {
  const Model model = nano();
  const BenchShape shape{.prompt = 1, .decode = 1, .depth = 0, .repeats = 5, .seed = 1};
  const CountingBackend backend;
  const auto point = measure_point(backend, model, 1, shape, [&](std::size_t done, std::size_t) {
    EXPECT_EQ(static_cast<std::size_t>(backend.turns), done);
  });
  ASSERT_TRUE(point);
  EXPECT_EQ(backend.turns, 6);
  EXPECT_EQ(point->bandwidth->median, 12e12);  // Of 2, 4, 8, 16, 32 and 64.
  EXPECT_EQ(point->bandwidth->best, 96e12);
  // Where there is no room beside the session, once without it.
  CountingBackend full;
  full.empty_turns = 6;
  const auto late = measure_point(full, model, 1, shape, [](auto, auto) {});
  ASSERT_TRUE(late);
  EXPECT_EQ(full.turns, 7);
  EXPECT_EQ(late->bandwidth->median, 2e12);
}

TEST(BenchMeasure, HoldsDecodeAgainstTheMedianOfTheTurns) {
  EXPECT_FALSE(over_turns({}));
  const ReadBandwidth turns[] = {{10.0, 12.0}, {90.0, 95.0}, {20.0, 40.0}};
  EXPECT_EQ(over_turns(turns)->median, 20.0);
  EXPECT_EQ(over_turns(turns)->best, 95.0);
}

TEST(BenchMachine, MeasuresThePeakSinceTheReset) {
  const auto before = peak_memory();
  ASSERT_TRUE(before);
  const std::vector<char> block(std::size_t{64} << 20, 'x');
  EXPECT_GE(*peak_memory(), block.size());
  EXPECT_TRUE(load_average());
  EXPECT_FALSE(read_clock_mhz(BackendId::kOracle));
}

}  // namespace
}  // namespace refute
