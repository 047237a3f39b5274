// router.pairs_weights_with_ids: see the first comment of the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

Verdict falsify_pairs_weights_with_ids(const Subject& subject, const Criterion& criterion);

const FalsifierInfo& router_pairs_weights_with_ids_info();

}  // namespace refute
