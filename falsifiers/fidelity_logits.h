// fidelity.logits: claim, reasons and limits are in the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

const FalsifierInfo& fidelity_logits_info();
Verdict falsify_fidelity_logits(const Subject& subject, const Criterion& criterion);

}  // namespace refute
