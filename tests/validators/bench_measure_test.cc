#include "validators/bench/measure.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "kernels/cpu/context.h"
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

TEST(BenchMeasure, HoldsDecodeAgainstTheMedianOfTheTurns) {
  EXPECT_FALSE(over_turns({}));
  const ReadBandwidth turns[] = {{10.0, 12.0}, {30.0, 31.0}, {20.0, 40.0}};
  EXPECT_EQ(over_turns(turns)->median, 20.0);
  EXPECT_EQ(over_turns(turns)->best, 40.0);
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
