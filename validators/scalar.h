// Strict reading of YAML scalars: what is no number by YAML 1.2's core schema is none here.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace refute {

// Decimal digits with an optional sign, within int64; nothing else around them.
std::optional<std::int64_t> parse_integer(std::string_view text);

// A decimal number such as 5e-6, 1e-5 or .5, or .inf, -.inf, .nan. A number too large for a double
// is infinite, one too small is zero.
std::optional<double> parse_number(std::string_view text);

// Whether YAML reads a plain scalar of this text as a number or as true or false, not as text.
bool is_number_or_bool(std::string_view plain);

}  // namespace refute
