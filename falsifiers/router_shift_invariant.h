// router.shift_invariant: see the first comment of the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

Verdict falsify_shift_invariant(const Subject& subject, const Criterion& criterion);

const FalsifierInfo& router_shift_invariant_info();

}  // namespace refute
