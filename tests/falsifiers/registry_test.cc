#include "falsifiers/registry.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>
#include <string>

namespace refute {
namespace {

std::string file_name(std::string_view id) {
  std::string name(id);
  std::ranges::replace(name, '.', '_');
  return name;
}

TEST(Registry, IsSortedByUniqueIds) {
  const auto registry = falsifier_registry();
  ASSERT_FALSE(registry.empty());
  for (std::size_t i = 1; i < registry.size(); ++i) {
    EXPECT_LT(registry[i - 1].id, registry[i].id);
  }
}

TEST(Registry, FindsEachByIdAndNothingElse) {
  for (const FalsifierInfo& info : falsifier_registry()) {
    EXPECT_EQ(find_falsifier(info.id), &info);
  }
  EXPECT_EQ(find_falsifier("router.weights_sum_to_two"), nullptr);
  EXPECT_EQ(find_falsifier(""), nullptr);
}

TEST(Registry, IdsAreTheNamesOfTheirFilesAndTests) {
  const std::filesystem::path root(REFUTE_SOURCE_DIR);
  for (const FalsifierInfo& info : falsifier_registry()) {
    const std::string name = file_name(info.id);
    EXPECT_TRUE(std::filesystem::exists(root / "falsifiers" / (name + ".h"))) << name;
    EXPECT_TRUE(std::filesystem::exists(root / "falsifiers" / (name + ".cc"))) << name;
    EXPECT_TRUE(std::filesystem::exists(root / "tests/falsifiers" / (name + "_test.cc"))) << name;
  }
}

TEST(Registry, EveryMetricHasANameAMeaningAndAPositiveFiniteCeiling) {
  for (const FalsifierInfo& info : falsifier_registry()) {
    std::set<std::string_view> names;
    EXPECT_FALSE(info.metrics.empty()) << info.id;
    for (const MetricInfo& metric : info.metrics) {
      EXPECT_TRUE(names.insert(metric.name).second) << info.id << " " << metric.name;
      EXPECT_FALSE(metric.name.empty()) << info.id;
      EXPECT_FALSE(metric.meaning.empty()) << info.id << " " << metric.name;
      EXPECT_TRUE(std::isfinite(metric.ceiling) && metric.ceiling > 0.0)
          << info.id << " " << metric.name << " " << metric.ceiling;
    }
  }
}

TEST(Registry, EveryFalsifierSaysWhatItIs) {
  for (const FalsifierInfo& info : falsifier_registry()) {
    for (const std::string_view text :
         {info.claim, info.why, info.catches, info.misses, info.source}) {
      EXPECT_FALSE(text.empty()) << info.id;
    }
    EXPECT_FALSE(info.backends.empty()) << info.id;
    const std::set<BackendId> backends(info.backends.begin(), info.backends.end());
    EXPECT_EQ(backends.size(), info.backends.size()) << info.id;
    EXPECT_NE(info.falsify, nullptr) << info.id;
  }
}

}  // namespace
}  // namespace refute
