// determinism.repeats: claim, reasons and limits are in the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

const FalsifierInfo& determinism_repeats_info();
Verdict falsify_determinism_repeats(const Subject& subject, const Criterion& criterion);

}  // namespace refute
