// forward.row_alone_equals_batch: see the first comment of the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

Verdict falsify_forward_row_alone_equals_batch(const Subject& subject, const Criterion& criterion);

const FalsifierInfo& forward_row_alone_equals_batch_info();

}  // namespace refute
