// The backends that a forward pass runs on.
#pragma once

#include <array>
#include <optional>
#include <string_view>

namespace refute {

// kOracle is float64; the others are the fast paths under test.
enum class BackendId { kOracle, kCpu, kCuda, kWgpu };

inline constexpr std::array<BackendId, 4> kAllBackends = {BackendId::kOracle, BackendId::kCpu,
                                                          BackendId::kCuda, BackendId::kWgpu};

// "oracle", "cpu", "cuda", "wgpu".
std::string_view backend_name(BackendId id);
std::optional<BackendId> parse_backend(std::string_view name);

}  // namespace refute
