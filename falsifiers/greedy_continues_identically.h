// greedy.continues_identically: claim, reasons and limits are in the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

const FalsifierInfo& greedy_continues_identically_info();
Verdict falsify_greedy_continues_identically(const Subject& subject, const Criterion& criterion);

}  // namespace refute
