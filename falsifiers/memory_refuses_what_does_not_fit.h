// memory.refuses_what_does_not_fit: claim, reasons and limits are in the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

const FalsifierInfo& memory_refuses_what_does_not_fit_info();
Verdict falsify_memory_refuses_what_does_not_fit(const Subject& subject,
                                                 const Criterion& criterion);

}  // namespace refute
