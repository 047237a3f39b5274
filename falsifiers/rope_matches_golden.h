// rope.matches_golden: see the first comment of the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

Verdict falsify_rope_matches_golden(const Subject& subject, const Criterion& criterion);

const FalsifierInfo& rope_matches_golden_info();

}  // namespace refute
