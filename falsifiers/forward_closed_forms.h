// forward.closed_forms: see the first comment of the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

Verdict falsify_forward_closed_forms(const Subject& subject, const Criterion& criterion);

const FalsifierInfo& forward_closed_forms_info();

}  // namespace refute
