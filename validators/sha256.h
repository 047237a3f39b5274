// SHA-256, the hash that records bind to.
#pragma once

#include <string>
#include <string_view>

namespace refute {

// 64 lower-case hexadecimal digits.
std::string sha256_hex(std::string_view bytes);

}  // namespace refute
