// forward.chained_parity: claim, reasons and limits are in the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

const FalsifierInfo& forward_chained_parity_info();
Verdict falsify_forward_chained_parity(const Subject& subject, const Criterion& criterion);

}  // namespace refute
