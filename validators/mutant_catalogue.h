// Mutants of the gates and of the contracts: what someone could break in the checking itself. The
// selftest applies each and expects red.
#pragma once

#include <span>
#include <string_view>

namespace refute {

struct MutantInfo {
  std::string_view id;         // "G1" of a gate, "C1" of a contract
  std::string_view title;      // What is broken.
  std::string_view turns_red;  // What finds it.
};

// Sorted by kind and number.
std::span<const MutantInfo> mutant_catalogue();

}  // namespace refute
