// rms_norm.closed_form_near_epsilon: see the first comment of the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

Verdict falsify_closed_form_near_epsilon(const Subject& subject, const Criterion& criterion);

const FalsifierInfo& rms_norm_closed_form_near_epsilon_info();

}  // namespace refute
