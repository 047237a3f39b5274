// swiglu.goldens: see the first comment of the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

Verdict falsify_swiglu_goldens(const Subject& subject, const Criterion& criterion);

const FalsifierInfo& swiglu_goldens_info();

}  // namespace refute
