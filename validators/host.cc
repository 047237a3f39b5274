#include "validators/host.h"

#include <sys/utsname.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string_view>
#include <system_error>
#include <thread>

namespace refute {
namespace {

constexpr std::array<std::string_view, 8> kFeatures = {
    "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx_vnni"};

// "key : value" of the first line that starts with `key`.
std::string line_value(const std::string& path, std::string_view key) {
  std::ifstream in(path);
  std::string line;
  while (std::getline(in, line)) {
    if (!line.starts_with(key)) continue;
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const std::size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

std::uint64_t kibibytes(const std::string& text) {
  std::istringstream in(text);
  std::uint64_t number = 0;
  in >> number;
  return number * 1024;
}

std::vector<std::string> entries(const std::string& folder, std::string_view prefix) {
  std::vector<std::string> found;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename().string();
    const std::string_view rest =
        std::string_view(name).substr(std::min(name.size(), prefix.size()));
    const bool numbered =
        !rest.empty() && rest.find_first_not_of("0123456789") == std::string_view::npos;
    if (name.starts_with(prefix) && numbered) found.push_back(entry.path().string());
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::vector<std::string> vector_features() {
  std::istringstream in(line_value("/proc/cpuinfo", "flags"));
  std::set<std::string> flags;
  for (std::string flag; in >> flag;) flags.insert(flag);
  std::vector<std::string> found;
  for (const std::string_view feature : kFeatures) {
    if (flags.contains(std::string(feature))) found.emplace_back(feature);
  }
  return found;
}

}  // namespace

HostInfo read_host_info() {
  HostInfo host;
  host.processor = line_value("/proc/cpuinfo", "model name");
  if (host.processor.empty()) host.processor = "unknown processor";
  host.features = vector_features();
  utsname system{};
  if (uname(&system) == 0) {
    host.operating_system =
        std::string(system.sysname) + " " + system.release + " " + system.machine;
  }
  host.processors = std::max<std::size_t>(1, std::thread::hardware_concurrency());
  host.memory_bytes = kibibytes(line_value("/proc/meminfo", "MemTotal"));
  host.free_memory_bytes = kibibytes(line_value("/proc/meminfo", "MemAvailable"));
  host.nvidia_driver = line_value("/proc/driver/nvidia/version", "NVRM version");
  host.nvidia_devices = entries("/dev", "nvidia");
  host.render_nodes = entries("/dev/dri", "renderD");
  return host;
}

std::string describe(const HostInfo& host) { return host.processor + ", " + host.operating_system; }

}  // namespace refute
