// expert.power_of_two: see the first comment of the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

Verdict falsify_expert_power_of_two(const Subject& subject, const Criterion& criterion);

const FalsifierInfo& expert_power_of_two_info();

}  // namespace refute
