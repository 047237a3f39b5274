// forward.finite: claim, reasons and limits are in the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

const FalsifierInfo& forward_finite_info();
Verdict falsify_forward_finite(const Subject& subject, const Criterion& criterion);

}  // namespace refute
