// router.order_and_ties: see the first comment of the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

Verdict falsify_order_and_ties(const Subject& subject, const Criterion& criterion);

const FalsifierInfo& router_order_and_ties_info();

}  // namespace refute
