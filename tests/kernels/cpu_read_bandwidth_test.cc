#include "kernels/cpu/read_bandwidth.h"

#include <gtest/gtest.h>

#include <vector>

#include "kernels/cpu/simd.h"
#include "tests/kernels/cpu_support.h"

namespace refute {
namespace {

TEST(XorWords, ReadsEveryWordOnEveryInstructionSet) {
  for (const std::size_t count : {0u, 1u, 7u, 8u, 31u, 32u, 33u, 63u, 64u, 65u, 300u}) {
    std::vector<std::uint64_t> words(count);
    std::uint64_t expected = 0;
    for (std::size_t i = 0; i < count; ++i) {
      words[i] = (i + 3) * 0x9e3779b97f4a7c15ULL;
      expected ^= words[i];
    }
    for (const cpu::Isa isa : cpu::supported_isas()) {
      const cpu::Context context = cpu_test::make_context(isa, 1);
      EXPECT_EQ(context.simd().xor_words(words.data(), count), expected)
          << cpu::isa_name(isa) << " " << count;
    }
  }
}

TEST(ReadBandwidth, IsPlausibleOverABufferThatNoCacheHolds) {
  EXPECT_GE(cpu::read_bandwidth_buffer_bytes(), std::size_t{256} << 20);
  const auto bandwidth = cpu::measure_read_bandwidth(cpu_test::make_context(cpu::best_isa(), 2));
  ASSERT_TRUE(bandwidth);
  EXPECT_GT(bandwidth->median, 1e8);  // 0.1 GB/s: slower than any machine of this century.
  EXPECT_GE(bandwidth->best, bandwidth->median);
  EXPECT_LT(bandwidth->best, 2e12);  // 2 TB/s: faster than any memory of a CPU.
}

}  // namespace
}  // namespace refute
