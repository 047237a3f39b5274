#include "engine/backend_id.h"

namespace refute {

std::string_view backend_name(BackendId id) {
  switch (id) {
    case BackendId::kOracle:
      return "oracle";
    case BackendId::kCpu:
      return "cpu";
    case BackendId::kCuda:
      return "cuda";
    case BackendId::kWgpu:
      return "wgpu";
  }
  return "unknown";
}

std::optional<BackendId> parse_backend(std::string_view name) {
  for (const BackendId id : kAllBackends) {
    if (backend_name(id) == name) return id;
  }
  return std::nullopt;
}

}  // namespace refute
