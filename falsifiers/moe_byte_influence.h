// moe.byte_influence: see the first comment of the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

Verdict falsify_moe_byte_influence(const Subject& subject, const Criterion& criterion);

const FalsifierInfo& moe_byte_influence_info();

}  // namespace refute
