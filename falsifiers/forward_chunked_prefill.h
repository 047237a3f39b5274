// forward.chunked_prefill: claim, reasons and limits are in the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

const FalsifierInfo& forward_chunked_prefill_info();
Verdict falsify_forward_chunked_prefill(const Subject& subject, const Criterion& criterion);

}  // namespace refute
