// Versions, MAJOR.MINOR.PATCH.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace refute {

using Version = std::array<std::int64_t, 3>;

// Exactly three decimal numbers with dots between them and without leading zeros.
std::optional<Version> parse_version(std::string_view text);

struct FoundVersion {
  std::size_t offset = 0;  // Bytes before it.
  std::string_view text;
};

// The first version in the text, such as 1.2.0 at 10 of "Contract v1.2.0".
std::optional<FoundVersion> find_version(std::string_view text);

}  // namespace refute
