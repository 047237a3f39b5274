// fidelity.local_stages: claim, reasons and limits are in the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

const FalsifierInfo& fidelity_local_stages_info();
Verdict falsify_fidelity_local_stages(const Subject& subject, const Criterion& criterion);

}  // namespace refute
