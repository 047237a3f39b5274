// Did you mean: the known name nearest to a misspelt one.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace refute {

// The candidate with the fewest edits (insertions, deletions, substitutions, exchanges of
// neighbours; case costs nothing), if it takes no more than a third of the name's length and
// no more than four.
std::optional<std::string_view> nearest_name(std::string_view name,
                                             std::span<const std::string_view> candidates);

// "did you mean `x`?", or "known: a, b, c" when nothing is near; empty without candidates.
std::string suggest(std::string_view name, std::span<const std::string_view> candidates);

}  // namespace refute
