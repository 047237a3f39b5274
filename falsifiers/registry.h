// Every falsifier there is. The table is explicit: self-registering objects in a static library are
// dropped by the linker without a word, and then validation would pass.
#pragma once

#include <span>
#include <string_view>

#include "falsifiers/falsifier.h"

namespace refute {

// Sorted by id, ids unique (a test holds both).
std::span<const FalsifierInfo> falsifier_registry();

// Null when there is none of that id.
const FalsifierInfo* find_falsifier(std::string_view id);

}  // namespace refute
