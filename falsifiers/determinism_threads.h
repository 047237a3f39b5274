// determinism.threads: claim, reasons and limits are in the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

const FalsifierInfo& determinism_threads_info();
Verdict falsify_determinism_threads(const Subject& subject, const Criterion& criterion);

}  // namespace refute
