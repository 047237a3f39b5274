// router.renormalises_top_k: see the first comment of the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

Verdict falsify_renormalises_top_k(const Subject& subject, const Criterion& criterion);

const FalsifierInfo& router_renormalises_top_k_info();

}  // namespace refute
