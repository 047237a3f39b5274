// forward.decode_equals_prefill: claim, reasons and limits are in the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

const FalsifierInfo& forward_decode_equals_prefill_info();
Verdict falsify_forward_decode_equals_prefill(const Subject& subject, const Criterion& criterion);

}  // namespace refute
