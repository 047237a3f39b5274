#include "falsifiers/fault_catalogue.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

namespace refute {
namespace {

TEST(FaultCatalogue, HoldsEveryNumberInOrder) {
  std::vector<std::string> expected;
  for (int number = 1; number <= 107; ++number) expected.push_back("F" + std::to_string(number));
  expected.insert(expected.end(), {"F107a", "F108"});
  std::vector<std::string> found;
  for (const FaultInfo& fault : fault_catalogue()) found.emplace_back(fault.id);
  EXPECT_EQ(found, expected);
}

TEST(FaultCatalogue, DescribesEveryFault) {
  std::set<std::string_view> titles;
  for (const FaultInfo& fault : fault_catalogue()) {
    EXPECT_TRUE(titles.insert(fault.title).second) << fault.id;
    EXPECT_FALSE(fault.title.empty()) << fault.id;
    EXPECT_FALSE(fault.detected_by.empty()) << fault.id;
    EXPECT_FALSE(fault.missed_by.empty()) << fault.id;
  }
}

TEST(FaultCatalogue, FindsFaultsById) {
  ASSERT_NE(find_fault("F22"), nullptr);
  EXPECT_EQ(find_fault("F22")->title, "missing renormalisation of the top-k weights");
  EXPECT_EQ(find_fault("F0"), nullptr);
  EXPECT_EQ(find_fault("22"), nullptr);
}

}  // namespace
}  // namespace refute
