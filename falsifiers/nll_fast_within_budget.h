// nll.fast_within_budget: claim, reasons and limits are in the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

const FalsifierInfo& nll_fast_within_budget_info();
Verdict falsify_nll_fast_within_budget(const Subject& subject, const Criterion& criterion);

}  // namespace refute
