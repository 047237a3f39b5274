#include "falsifiers/gguf_layout_byte_counts.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <span>

#include "tests/falsifiers/broken_session.h"
#include "tests/falsifiers/pack_fixture.h"

namespace refute {
namespace {

TEST(GgufLayoutByteCounts, HoldsOnTheOracleOfEveryPack) {
  for (const char* name : kPackNames) {
    const LoadedPack loaded(name);
    EXPECT_TRUE(held(run(gguf_layout_byte_counts_info(), *exact_oracle(), loaded))) << name;
  }
}

TEST(GgufLayoutByteCounts, HoldsOnTheCpuBackendOfEveryPack) {
  for (const char* name : kPackNames) {
    const LoadedPack loaded(name);
    EXPECT_TRUE(held(run(gguf_layout_byte_counts_info(), *cpu_backend(), loaded))) << name;
  }
}

// F31: every expert is its neighbour.
class NeighbourSlices : public FaultySessionBackend {
 public:
  explicit NeighbourSlices(const Backend& inner) : FaultySessionBackend(inner, {}) {}

  Result<std::span<const std::byte>> expert_byte_slice(const ExpertStack& stack,
                                                       std::size_t expert) const override {
    return FaultySessionBackend::expert_byte_slice(stack, (expert + 1) % stack.num_experts);
  }
};

TEST(GgufLayoutByteCounts, ExpertsOffByOneAreRefuted) {
  const LoadedPack loaded("nano");
  const auto cpu = cpu_backend();
  const NeighbourSlices broken(*cpu);
  EXPECT_TRUE(refuted_by(run(gguf_layout_byte_counts_info(), broken, loaded), "misplaced_slices",
                         "expert 0"));
}

// F92: blocks of Q6_K taken to be padded to 212 bytes.
class PaddedBlocks : public FaultySessionBackend {
 public:
  explicit PaddedBlocks(const Backend& inner) : FaultySessionBackend(inner, {}) {}

  Result<void> matvec(const WeightView& weight, std::span<const double> x,
                      std::span<double> y) const override {
    if (weight.type != TensorType::kQ6_K) return FaultySessionBackend::matvec(weight, x, y);
    // The last row that a stride of 212 bytes leaves inside the matrix.
    const std::size_t rows = weight.rows * 210 / 212;
    for (std::size_t r = 0; r < rows; ++r) {
      const WeightView row{weight.type, 1, weight.columns, weight.data + r * 212};
      if (auto ok = FaultySessionBackend::matvec(row, x, y.subspan(r, 1)); !ok) return ok;
    }
    return {};
  }
};

TEST(GgufLayoutByteCounts, APaddedStrideIsRefuted) {
  const LoadedPack loaded("nano");
  const auto oracle = exact_oracle();
  const PaddedBlocks broken(*oracle);
  EXPECT_TRUE(refuted_by(run(gguf_layout_byte_counts_info(), broken, loaded), "readout_error",
                         "attn_v.weight column"));
}

TEST(GgufLayoutByteCounts, EveryMatrixOfEveryLayerIsCounted) {
  const LoadedPack loaded("tiny");
  const Verdict verdict = run(gguf_layout_byte_counts_info(), *exact_oracle(), loaded);
  // 39 tensors by their bytes; embed_tokens, lm_head and 5 matrices in 3 layers by place and
  // readout; 9 stacks by place, 3 slices each, and the readout of each; 3 embeddings.
  EXPECT_EQ(verdict.cases_run, 39u + 2u * (2u + 15u) + 9u + 27u + 27u + 3u);
}

}  // namespace
}  // namespace refute
