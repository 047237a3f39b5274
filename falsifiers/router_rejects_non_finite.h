// router.rejects_non_finite: see the first comment of the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

Verdict falsify_rejects_non_finite(const Subject& subject, const Criterion& criterion);

const FalsifierInfo& router_rejects_non_finite_info();

}  // namespace refute
