// The machine that this runs on, as far as records and `refute doctor` speak of it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace refute {

struct HostInfo {
  std::string processor;              // "AMD EPYC 7763 64-Core Processor"
  std::vector<std::string> features;  // Of the vector features we use: those that it has.
  std::string operating_system;       // "Linux 6.1.0 x86_64"
  std::size_t processors = 1;         // That this process may use.
  std::uint64_t memory_bytes = 0;
  std::uint64_t free_memory_bytes = 0;
  std::string nvidia_driver;                // Its version line; empty without a driver.
  std::vector<std::string> nvidia_devices;  // "/dev/nvidia0"
  std::vector<std::string> render_nodes;    // "/dev/dri/renderD128": what wgpu could use.
};

HostInfo read_host_info();

// One line for records: processor and operating system.
std::string describe(const HostInfo& host);

}  // namespace refute
