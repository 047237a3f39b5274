// forward.cosine_per_row: claim, reasons and limits are in the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

const FalsifierInfo& forward_cosine_per_row_info();
Verdict falsify_forward_cosine_per_row(const Subject& subject, const Criterion& criterion);

}  // namespace refute
