// moe.invariances: see the first comment of the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

Verdict falsify_moe_invariances(const Subject& subject, const Criterion& criterion);

const FalsifierInfo& moe_invariances_info();

}  // namespace refute
