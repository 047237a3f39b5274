// router.weights_sum_to_one: see the first comment of the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

Verdict falsify_weights_sum_to_one(const Subject& subject, const Criterion& criterion);

const FalsifierInfo& router_weights_sum_to_one_info();

}  // namespace refute
