// moe.matches_emulated_oracle: see the first comment of the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

Verdict falsify_moe_matches_emulated_oracle(const Subject& subject, const Criterion& criterion);

const FalsifierInfo& moe_matches_emulated_oracle_info();

}  // namespace refute
