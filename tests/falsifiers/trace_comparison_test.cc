#include "falsifiers/trace_comparison.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "falsifiers/traced_run.h"
#include "tests/falsifiers/pack_fixture.h"

namespace refute {
namespace {

constexpr TraceSite kMoeOut{TracePoint::kMoeOut, 1};

TraceFile trace_of(const Backend& backend, const std::string& name, const LoadedPack& loaded,
                   const ForcedRoutes* routes = nullptr) {
  const TracedRun run =
      run_traced(backend, loaded.model, loaded.pack.tokens(), {.chunk = 0, .forced_routes = routes})
          .value();
  return make_trace_file({.subject = "pack",
                          .model_sha256 = "one",
                          .backend = name,
                          .description = backend.description(),
                          .version = "",
                          .tree_sha256 = "",
                          .routes = "own",
                          .error = "",
                          .chunk = 0},
                         loaded.pack.tokens(), run.trace);
}

std::string first_site(const TraceComparison& comparison) {
  const SiteComparison* first = comparison.first_divergence();
  return first == nullptr ? "" : first->site.name() + ": " + first->detail;
}

const SiteComparison& at(const TraceComparison& comparison, TraceSite site) {
  const auto found = std::ranges::find(comparison.sites, site, &SiteComparison::site);
  CHECK(found != comparison.sites.end());
  return *found;
}

TEST(TraceComparison, FindsRepeatsEqualToTheLastBit) {
  const LoadedPack loaded("nano");
  const TraceFile one = trace_of(*cpu_backend(), "cpu", loaded);
  const TraceFile other = trace_of(*cpu_backend(), "cpu", loaded);
  ASSERT_TRUE(check_same_run(one, other));
  const TraceComparison comparison = compare_chained(one, other);
  EXPECT_EQ(comparison.yardstick.comparison_class, ComparisonClass::kE);
  EXPECT_EQ(comparison.compared(), one.tensors.size());
  EXPECT_FALSE(comparison.diverges());
  EXPECT_EQ(comparison.first_divergence(), nullptr);
  for (const SiteComparison& site : comparison.sites) {
    EXPECT_EQ(site.state, SiteState::kEqual) << site.site.name();
  }
}

TEST(TraceComparison, NamesTheOneBitThatDiffersBetweenRepeats) {
  const LoadedPack loaded("nano");
  const TraceFile one = trace_of(*cpu_backend(), "cpu", loaded);
  TraceFile other = one;
  double& value = other.tensors.at(kMoeOut).values(3, 5);
  value = std::nextafter(value, 1e30);
  const TraceComparison comparison = compare_chained(one, other);
  EXPECT_TRUE(comparison.diverges());
  EXPECT_TRUE(first_site(comparison).starts_with("blk.1.moe_out: differing_elements is 1"))
      << first_site(comparison);
  EXPECT_EQ(at(comparison, kMoeOut).differing, 1u);
}

TEST(TraceComparison, HoldsTheCpuWithinWhatQuantizationCosts) {
  for (const char* name : {"nano", "tiny", "mixed", "kjv-moe-7m"}) {
    const LoadedPack loaded(name);
    const TraceFile oracle = trace_of(*exact_oracle(), "oracle", loaded);
    const ForcedRoutes routes = routes_of(loaded.model.config(), oracle.tensors);
    const TraceFile cpu = trace_of(*cpu_backend(), "cpu", loaded, &routes);
    const TraceComparison chained = compare_chained(oracle, cpu);
    EXPECT_EQ(chained.yardstick.comparison_class, ComparisonClass::kC);
    EXPECT_EQ(first_site(chained), "") << name;
    const TraceComparison local = compare_local(oracle, cpu.origin, *cpu_backend(), loaded.model);
    EXPECT_EQ(local.yardstick.scope, ErrorScope::kLocal);
    EXPECT_EQ(first_site(local), "") << name;
    EXPECT_EQ(local.compared(), oracle.tensors.size());
  }
}

TEST(TraceComparison, HoldsTheCpuNearTheEmulatingOracle) {
  const LoadedPack loaded("nano");
  const auto emulated = make_oracle_backend(ActivationScheme::kEmulatedInt8);
  const TraceFile oracle = trace_of(*emulated, "oracle-emulated", loaded);
  const TraceFile cpu = trace_of(*cpu_backend(), "cpu", loaded);
  const TraceComparison chained = compare_chained(oracle, cpu);
  EXPECT_EQ(chained.yardstick.comparison_class, ComparisonClass::kD);
  EXPECT_EQ(first_site(chained), "");
  const TraceComparison local = compare_local(cpu, oracle.origin, *emulated, loaded.model);
  EXPECT_EQ(local.yardstick.comparison_class, ComparisonClass::kB);
  EXPECT_EQ(first_site(local), "");
  const TraceComparison refed = compare_local(oracle, cpu.origin, *cpu_backend(), loaded.model);
  EXPECT_EQ(refed.yardstick.comparison_class, ComparisonClass::kD);
  EXPECT_EQ(first_site(refed), "");
}

TEST(TraceComparison, ComparesWithExpectationsAndComposesWhatTheyLack) {
  const LoadedPack loaded("nano");
  const TraceFile pack = read_trace_file(pack_path("nano", ".expected.gguf")).value();
  const TraceFile oracle = trace_of(*exact_oracle(), "oracle", loaded);
  const TraceComparison chained = compare_chained(pack, oracle);
  EXPECT_EQ(chained.yardstick.comparison_class, ComparisonClass::kA);
  EXPECT_EQ(first_site(chained), "");
  EXPECT_EQ(chained.compared(), pack.tensors.size());
  EXPECT_EQ(chained.one_sided.size(), oracle.tensors.size() - pack.tensors.size());
  const TraceFile cpu = trace_of(*cpu_backend(), "cpu", loaded);
  const TraceComparison local = compare_local(pack, cpu.origin, *cpu_backend(), loaded.model);
  EXPECT_EQ(first_site(local), "");
  EXPECT_EQ(local.compared(), pack.tensors.size());
}

TEST(TraceComparison, DoesNotReplayAcrossLayers) {
  const LoadedPack loaded("nano");
  TraceFile cpu = trace_of(*cpu_backend(), "cpu", loaded);
  std::erase_if(cpu.tensors, [](const auto& entry) { return entry.first != kMoeOut; });
  const TraceComparison local = compare_local(cpu, cpu.origin, *cpu_backend(), loaded.model);
  EXPECT_EQ(local.compared(), 0u);
  EXPECT_EQ(at(local, kMoeOut).state, SiteState::kNotCompared);
}

TEST(TraceComparison, KeepsLocalAndChainedErrorsApart) {
  const LoadedPack loaded("nano");
  const TraceFile one = trace_of(*cpu_backend(), "cpu", loaded);
  TraceFile other = one;
  // An error of one stage that the later ones carry on.
  for (auto& [site, tensor] : other.tensors) {
    const bool after = site.layer > 0 || site.point >= TracePoint::kOutputNorm;
    if (!after || site.point == TracePoint::kRouterIndex) continue;
    for (double& value : tensor.values.flat()) value *= 1.01;
  }
  EXPECT_TRUE(first_site(compare_chained(one, other)).starts_with("blk.1.attn_norm"));
  const TraceComparison local = compare_local(one, other.origin, *cpu_backend(), loaded.model);
  EXPECT_FALSE(local.diverges()) << "each stage by itself is right";
}

TEST(TraceComparison, NamesTheFirstNonFiniteSite) {
  const LoadedPack loaded("nano");
  const TraceFile one = trace_of(*cpu_backend(), "cpu", loaded);
  TraceFile other = one;
  constexpr TraceSite kOut{TracePoint::kExpertOut, 1};
  other.tensors.at(kOut).values(2, 7) = std::numeric_limits<double>::quiet_NaN();
  other.tensors.at(kMoeOut).values(1, 7) = std::numeric_limits<double>::infinity();
  EXPECT_TRUE(first_site(compare_chained(one, other)).starts_with("blk.1.expert_out: 1 of "))
      << first_site(compare_chained(one, other));
  // Equal NaN on both sides are no agreement.
  EXPECT_TRUE(compare_chained(other, other).diverges());
}

TEST(TraceComparison, PairsExpertsByTheirIdAndFindsOtherSets) {
  const LoadedPack loaded("nano");
  const TraceFile one = trace_of(*exact_oracle(), "oracle", loaded);
  TraceFile other = one;
  other.origin.backend = "oracle-emulated";
  const std::size_t k = loaded.model.config().num_experts_per_tok;
  ASSERT_EQ(k, 2u);
  // Token 4 of layer 0 takes the same two experts, the lesser first.
  for (auto& [site, tensor] : other.tensors) {
    if (site.layer != 0 || !is_per_layer(site.point)) continue;
    auto& values = tensor.values;
    if (site.point == TracePoint::kRouterIndex || site.point == TracePoint::kRouterWeight) {
      std::swap(values(4, 0), values(4, 1));
    } else if (values.rows() == k * one.tokens.size()) {
      std::ranges::swap_ranges(values.row(8), values.row(9));
    }
  }
  EXPECT_EQ(first_site(compare_chained(one, other)), "");
  Matrix<double>& ids = other.tensors.at({TracePoint::kRouterIndex, 0}).values;
  const auto unused = [&] {
    double id = 0.0;
    while (id == ids(4, 0) || id == ids(4, 1)) id += 1.0;
    return id;
  };
  ids(4, 0) = unused();
  const TraceComparison parted = compare_chained(one, other);
  EXPECT_TRUE(first_site(parted).starts_with(
      "blk.0.router_index: 1 of " + std::to_string(one.tokens.size()) +
      " tokens take other experts, 1 of them no near tie; the first is token 4"))
      << first_site(parted);
  EXPECT_TRUE(parted.diverges());
}

TEST(TraceComparison, RefusesOtherRunsAndSaysWhatDiffers) {
  const LoadedPack loaded("nano");
  const TraceFile one = trace_of(*cpu_backend(), "cpu", loaded);
  TraceFile other = one;
  other.origin.model_sha256 = "two";
  auto same = check_same_run(one, other);
  ASSERT_FALSE(same);
  EXPECT_NE(same.error().message().find("not the same run, model"), std::string::npos);
  other = one;
  other.tokens[3] += 1;
  same = check_same_run(one, other);
  ASSERT_FALSE(same);
  EXPECT_NE(same.error().message().find("token 3"), std::string::npos) << same.error().message();
  other = one;
  other.captures.at(kMoeOut).reduction = "mean";
  same = check_same_run(one, other);
  ASSERT_FALSE(same);
  EXPECT_NE(same.error().message().find("blk.1.moe_out"), std::string::npos);
}

TEST(TraceComparison, TakesAnotherShapeOfTheSameModelForADivergence) {
  const LoadedPack loaded("nano");
  const TraceFile one = trace_of(*cpu_backend(), "cpu", loaded);
  TraceFile other = one;
  Matrix<double>& logits = other.tensors.at({TracePoint::kLogits, 0}).values;
  logits = Matrix<double>(logits.rows(), logits.columns() + 64);
  ASSERT_TRUE(check_same_run(one, other));
  EXPECT_TRUE(first_site(compare_chained(one, other)).starts_with("logits: [8, 320] where"))
      << first_site(compare_chained(one, other));
  other.origin.model_sha256.clear();
  EXPECT_FALSE(check_same_run(one, other));
}

TEST(TraceComparison, CountsWhatACandidateThatEndedLacks) {
  const LoadedPack loaded("nano");
  const TraceFile one = trace_of(*cpu_backend(), "cpu", loaded);
  TraceFile other = one;
  std::erase_if(other.tensors, [](const auto& entry) { return entry.first.layer == 1; });
  other.origin.error = "NonFinite: key";
  EXPECT_FALSE(compare_chained(one, other).diverges()) << "it may have been told to keep less";
  for (const auto& [site, tensor] : one.tensors) {
    if (site.layer == 1) other.missing.push_back(site);
  }
  const TraceComparison ended = compare_chained(one, other);
  EXPECT_TRUE(first_site(ended).starts_with("blk.1.attn_norm: the run ended before it"))
      << first_site(ended);
}

}  // namespace
}  // namespace refute
