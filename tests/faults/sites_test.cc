// The sources of kernels/ and engine/ against the catalogue: every site is of a fault that says it
// has one there, and every fault that says so has a site.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <string_view>

#include "falsifiers/fault_catalogue.h"

namespace refute {
namespace {

// Hosts by fault, as the sites' second argument names them: "kOracle", "kCpu", "kCuda".
using Sites = std::map<std::string, std::set<std::string>>;

std::string text_of(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

// A host that a file names once for all of its sites: "constexpr FaultHost kHost = ...".
std::string constant_of(const std::string& text, const std::string& name) {
  std::smatch match;
  const std::regex definition("constexpr FaultHost " + name + " = ([^;]+);");
  return std::regex_search(text, match, definition) ? match[1].str() : name;
}

void add_sites(const std::filesystem::path& path, Sites& sites) {
  const std::string text = text_of(path);
  static const std::regex kSite("fault_seeded\\(\"(F[0-9]+a?)\",\\s*([^()]+)\\)");
  for (std::sregex_iterator match(text.begin(), text.end(), kSite), end; match != end; ++match) {
    const std::string host = constant_of(text, (*match)[2].str());
    std::set<std::string>& hosts = sites[(*match)[1].str()];
    const bool any = host == "host" || host.starts_with("kFaultHostOf<");
    if (any || host == "FaultHost::kOracle") hosts.insert("kOracle");
    if (any || host == "FaultHost::kCpu") hosts.insert("kCpu");
    if (host == "FaultHost::kCuda") hosts.insert("kCuda");
    EXPECT_TRUE(any || host.starts_with("FaultHost::")) << path << ": host " << host;
  }
}

Sites all_sites() {
  Sites sites;
  for (const char* folder : {"kernels", "engine"}) {
    const std::filesystem::path root = std::filesystem::path(REFUTE_SOURCE_DIR) / folder;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
      if (entry.path().extension() == ".cc") add_sites(entry.path(), sites);
    }
  }
  return sites;
}

TEST(FaultSites, AreOfFaultsThatTheCatalogueHostsThere) {
  const Sites sites = all_sites();
  EXPECT_GT(sites.size(), 100u);
  for (const auto& [id, hosts] : sites) {
    const FaultInfo* const fault = find_fault(id);
    ASSERT_NE(fault, nullptr) << id;
    EXPECT_TRUE(fault->kind == FaultKind::kSeeded || fault->kind == FaultKind::kEquivalent) << id;
  }
}

TEST(FaultSites, ExistForEveryHostOfTheCatalogue) {
  const Sites sites = all_sites();
  for (const FaultInfo& fault : fault_catalogue()) {
    const auto found = sites.find(std::string(fault.id));
    EXPECT_EQ(found != sites.end(), !fault.hosts.empty()) << fault.id;
    if (found == sites.end()) continue;
    const std::set<std::string>& sites_of = found->second;
    const auto hosted = [&](BackendId host) {
      return std::ranges::find(fault.hosts, host) != fault.hosts.end();
    };
    EXPECT_EQ(sites_of.contains("kOracle"), hosted(BackendId::kOracle)) << fault.id;
    EXPECT_EQ(sites_of.contains("kCpu"), hosted(BackendId::kCpu)) << fault.id;
    // The CPU's sites stand in for CUDA's (engine/faulty/device.h).
    if (sites_of.contains("kCuda")) {
      EXPECT_TRUE(hosted(BackendId::kCuda)) << fault.id;
    } else if (hosted(BackendId::kCuda)) {
      EXPECT_TRUE(sites_of.contains("kCpu")) << fault.id;
    }
  }
}

// Headers belong to both builds: a site in one would be whichever the linker took.
TEST(FaultSites, StandInNoHeader) {
  for (const char* folder : {"kernels", "engine", "falsifiers"}) {
    const std::filesystem::path root = std::filesystem::path(REFUTE_SOURCE_DIR) / folder;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
      const std::filesystem::path relative =
          std::filesystem::relative(entry.path(), REFUTE_SOURCE_DIR);
      if (entry.path().extension() != ".h" || relative == "kernels/faults.h") continue;
      EXPECT_EQ(text_of(entry.path()).find("fault_seeded("), std::string::npos) << relative;
      EXPECT_EQ(text_of(entry.path()).find("kFaultSites"), std::string::npos) << relative;
    }
  }
}

// The places that the catalogue names exist, and hold the function that it names.
TEST(FaultSites, StandWhereTheCatalogueSays) {
  for (const FaultInfo& fault : fault_catalogue()) {
    if (fault.hosts.empty() && fault.kind != FaultKind::kBadFile) continue;
    const std::string place(fault.place);
    const std::string file = place.substr(0, place.find_first_of(", "));
    const std::string text = text_of(std::filesystem::path(REFUTE_SOURCE_DIR) / file);
    EXPECT_FALSE(text.empty()) << fault.id << ": " << file;
    const std::size_t comma = place.find(", ");
    if (comma == std::string::npos) continue;
    const std::string function =
        place.substr(comma + 2, place.find_first_of(" ;", comma + 2) - comma - 2);
    EXPECT_NE(text.find(function), std::string::npos) << fault.id << ": " << function;
  }
}

}  // namespace
}  // namespace refute
