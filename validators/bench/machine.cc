#include "validators/bench/machine.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>

namespace refute {
namespace {

// All numbers that follow "key ... :" at the start of a line.
template <typename Visit>
void each_value(const char* path, const std::string& key, const Visit& visit) {
  std::ifstream in(path);
  std::string line;
  while (std::getline(in, line)) {
    const std::size_t colon = line.find(':');
    if (!line.starts_with(key) || colon == std::string::npos) continue;
    std::istringstream text(line.substr(colon + 1));
    if (double value = 0.0; text >> value) visit(value);
  }
}

std::optional<double> cpu_clock() {
  std::optional<double> fastest;
  each_value("/proc/cpuinfo", "cpu MHz",
             [&](double mhz) { fastest = std::max(fastest.value_or(0.0), mhz); });
  return fastest;
}

std::optional<double> gpu_clock() {
  const auto close = [](std::FILE* pipe) { pclose(pipe); };
  const std::unique_ptr<std::FILE, decltype(close)> pipe(
      popen("nvidia-smi --query-gpu=clocks.sm --format=csv,noheader,nounits 2>/dev/null", "r"),
      close);
  if (!pipe) return std::nullopt;
  char line[64] = {};
  if (std::fgets(line, sizeof(line), pipe.get()) == nullptr) return std::nullopt;
  std::istringstream text(line);
  double mhz = 0.0;
  return text >> mhz ? std::optional(mhz) : std::nullopt;
}

}  // namespace

void reset_peak_memory() {
  std::ofstream out("/proc/self/clear_refs");
  out << "5";
}

std::optional<std::size_t> peak_memory() {
  constexpr double kKibibyte = 1024.0;
  std::optional<std::size_t> bytes;
  each_value("/proc/self/status", "VmHWM",
             [&](double kibibytes) { bytes = static_cast<std::size_t>(kibibytes * kKibibyte); });
  return bytes;
}

std::optional<double> read_clock_mhz(BackendId id) {
  if (id == BackendId::kCuda) return gpu_clock();
  return id == BackendId::kCpu ? cpu_clock() : std::nullopt;
}

std::optional<double> load_average() {
  std::ifstream in("/proc/loadavg");
  double load = 0.0;
  return in >> load ? std::optional(load) : std::nullopt;
}

}  // namespace refute
