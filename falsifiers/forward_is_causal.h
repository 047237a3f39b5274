// forward.is_causal: claim, reasons and limits are in the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

const FalsifierInfo& forward_is_causal_info();
Verdict falsify_forward_is_causal(const Subject& subject, const Criterion& criterion);

}  // namespace refute
