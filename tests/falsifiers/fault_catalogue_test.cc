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
  expected.emplace_back("F107a");
  for (int number = 108; number <= 131; ++number) expected.push_back("F" + std::to_string(number));
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
    EXPECT_FALSE(fault.place.empty()) << fault.id;
  }
}

TEST(FaultCatalogue, SaysOfEachKindWhatItNeeds) {
  for (const FaultInfo& fault : fault_catalogue()) {
    const bool computes = fault.kind == FaultKind::kSeeded || fault.kind == FaultKind::kEquivalent;
    EXPECT_EQ(computes, !fault.hosts.empty() || !fault.waits_for.empty()) << fault.id;
    EXPECT_EQ(fault.kind == FaultKind::kEquivalent, !fault.proof.empty()) << fault.id;
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
