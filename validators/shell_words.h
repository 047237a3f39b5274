// Commands that a reader may paste into a shell.
#pragma once

#include <string>
#include <string_view>

#include "validators/contract.h"

namespace refute {

// The word as it is where no shell reads anything into it, else in single quotes.
std::string shell_word(std::string_view word);

// "refute run FILE --filter ID"
std::string run_command(const Contract& contract, const FalsifierBlock& block);

}  // namespace refute
