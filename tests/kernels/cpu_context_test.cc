#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <numeric>
#include <vector>

#include "kernels/cpu/context.h"
#include "kernels/cpu/simd.h"
#include "tests/kernels/cpu_support.h"

namespace refute::cpu {
namespace {

TEST(CpuContext, RunsTheForcedInstructionSet) {
  const std::span<const Isa> isas = supported_isas();
  ASSERT_FALSE(isas.empty());
  EXPECT_EQ(isas.front(), Isa::kPortable);
  EXPECT_EQ(isas.back(), best_isa());
  for (const Isa isa : isas) {
    const Result<Context> context = Context::create(1, isa);
    ASSERT_TRUE(context);
    EXPECT_EQ(context->isa(), isa);
    EXPECT_EQ(context->simd().isa, isa);
  }
}

TEST(CpuContext, EveryInstructionSetHasKernelsOfItsOwn) {
  std::vector<SimdKernels> tables;
  for (const Isa isa : supported_isas()) tables.push_back(Context::create(1, isa)->simd());
  for (std::size_t a = 0; a < tables.size(); ++a) {
    for (std::size_t b = a + 1; b < tables.size(); ++b) {
      EXPECT_NE(tables[a].quantize_row, tables[b].quantize_row);
      EXPECT_NE(tables[a].dot_q8_0, tables[b].dot_q8_0);
      EXPECT_NE(tables[a].dot_q4_k, tables[b].dot_q4_k);
      EXPECT_NE(tables[a].dot_q5_k, tables[b].dot_q5_k);
      EXPECT_NE(tables[a].dot_q6_k, tables[b].dot_q6_k);
      // Tables without tiles read rows; those with tiles have their own.
      EXPECT_TRUE(tables[a].tiles == nullptr || tables[a].tiles != tables[b].tiles);
      EXPECT_NE(tables[a].dot_f32, tables[b].dot_f32);
      EXPECT_NE(tables[a].dot_f16, tables[b].dot_f16);
      EXPECT_NE(tables[a].dot_bf16, tables[b].dot_bf16);
      EXPECT_NE(tables[a].scale_by, tables[b].scale_by);
      EXPECT_NE(tables[a].add, tables[b].add);
      EXPECT_NE(tables[a].swiglu, tables[b].swiglu);
      EXPECT_NE(tables[a].rope, tables[b].rope);
      EXPECT_NE(tables[a].scores, tables[b].scores);
      EXPECT_NE(tables[a].softmax_terms, tables[b].softmax_terms);
      EXPECT_NE(tables[a].chunk_values, tables[b].chunk_values);
      EXPECT_NE(tables[a].merge_chunk, tables[b].merge_chunk);
      EXPECT_NE(tables[a].weighted_sum_f32, tables[b].weighted_sum_f32);
    }
  }
}

TEST(CpuContext, TakesTheBestInstructionSetAndAllProcessorsByDefault) {
  const Result<Context> context = Context::create();
  ASSERT_TRUE(context);
  EXPECT_EQ(context->isa(), best_isa());
  EXPECT_GE(context->threads().num_threads(), 1u);
}

TEST(CpuContext, RefusesAnInstructionSetThatIsNotThere) {
  const auto isas = supported_isas();
  for (const Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512Vnni, static_cast<Isa>(99)}) {
    const bool supported = std::find(isas.begin(), isas.end(), isa) != isas.end();
    const Result<Context> context = Context::create(1, isa);
    ASSERT_EQ(context.has_value(), supported);
    if (!supported) {
      EXPECT_EQ(context.error().kind, ErrorKind::kUnsupported);
      EXPECT_EQ(context.error().where, "cpu instruction set");
      EXPECT_EQ(context.error().found, isa_name(isa));
      EXPECT_NE(context.error().expected.find("portable"), std::string::npos);
    }
  }
}

TEST(CpuIsa, NamesParseBack) {
  for (const Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512Vnni}) {
    EXPECT_EQ(parse_isa(isa_name(isa)), isa);
  }
  EXPECT_EQ(isa_name(Isa::kAvx512Vnni), "avx512-vnni");
  EXPECT_FALSE(parse_isa("sse").has_value());
  EXPECT_FALSE(parse_isa("").has_value());
}

TEST(ThreadPool, CoversEveryIndexOnceInRangesOfWholeGrains) {
  for (const std::size_t threads : {1, 2, 3, 8}) {
    const ThreadPool pool(threads);
    EXPECT_EQ(pool.num_threads(), threads);
    for (const std::size_t count : {0, 1, 2, 15, 16, 17, 100, 1000}) {
      for (const std::size_t grain : {1, 3, 16, 1000}) {
        std::vector<std::atomic<int>> visits(count);
        std::atomic<bool> aligned{true};
        pool.parallel_for(count, grain, [&](std::size_t begin, std::size_t end) {
          if (begin >= end || begin % grain != 0) aligned = false;
          if (end != count && (end - begin) % grain != 0) aligned = false;
          for (std::size_t i = begin; i < end; ++i) visits[i].fetch_add(1);
        });
        EXPECT_TRUE(aligned) << count << " by " << grain;
        EXPECT_TRUE(std::all_of(visits.begin(), visits.end(),
                                [](const std::atomic<int>& visit) { return visit == 1; }))
            << count << " by " << grain << " with " << threads << " threads";
      }
    }
  }
}

TEST(ThreadPool, SharesFollowEachOtherAndAreEvenToAGrain) {
  for (const std::size_t threads : {1, 2, 3, 8}) {
    const ThreadPool pool(threads);
    for (const std::size_t count : {0, 1, 2, 15, 16, 17, 100, 1000}) {
      for (const std::size_t grain : {1, 3, 16, 1000}) {
        std::size_t end = 0;
        const IndexRange first = pool.share(count, grain, 0);
        for (std::size_t i = 0; i < threads; ++i) {
          const IndexRange share = pool.share(count, grain, i);
          EXPECT_EQ(share.begin, end);
          EXPECT_LE(share.end - share.begin, first.end - first.begin);
          EXPECT_LE(first.end - first.begin, share.end - share.begin + 2 * grain);
          end = share.end;
        }
        EXPECT_EQ(end, count) << count << " by " << grain << " on " << threads << " threads";
      }
    }
  }
}

// Each job reads what the one before wrote: neither a late worker nor an early return may disturb
// it.
TEST(ThreadPool, RunsManyShortJobsInOrder) {
  const ThreadPool pool(3);
  std::vector<int> values(64, 0);
  constexpr int kJobs = 5000;
  for (int job = 0; job < kJobs; ++job) {
    pool.parallel_for(values.size(), 1, [&](std::size_t begin, std::size_t end) {
      for (std::size_t i = begin; i < end; ++i) values[i] = values[i] == job ? job + 1 : -1;
    });
  }
  EXPECT_TRUE(std::all_of(values.begin(), values.end(), [](int v) { return v == kJobs; }));
}

TEST(ThreadPool, EndsWhetherItsThreadsSleepOrNeverRan) {
  for (int round = 0; round < 50; ++round) {
    const ThreadPool pool(4);
    if (round % 2 == 0) continue;
    std::atomic<std::size_t> sum{0};
    pool.parallel_for(10, 1, [&](std::size_t begin, std::size_t end) { sum += end - begin; });
    EXPECT_EQ(sum, 10u);
  }
}

}  // namespace
}  // namespace refute::cpu
