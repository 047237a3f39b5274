// determinism.traced_equals_untraced: claim, reasons and limits are in the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

const FalsifierInfo& determinism_traced_equals_untraced_info();
Verdict falsify_determinism_traced_equals_untraced(const Subject& subject,
                                                   const Criterion& criterion);

}  // namespace refute
