// nll.oracle_matches_expectation: claim, reasons and limits are in the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

const FalsifierInfo& nll_oracle_matches_expectation_info();
Verdict falsify_nll_oracle_matches_expectation(const Subject& subject, const Criterion& criterion);

}  // namespace refute
