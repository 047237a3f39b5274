// router.matches_float64: see the first comment of the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

Verdict falsify_router_matches_float64(const Subject& subject, const Criterion& criterion);

const FalsifierInfo& router_matches_float64_info();

}  // namespace refute
