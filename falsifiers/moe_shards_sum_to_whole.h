// moe.shards_sum_to_whole: see the first comment of the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

Verdict falsify_moe_shards_sum_to_whole(const Subject& subject, const Criterion& criterion);

const FalsifierInfo& moe_shards_sum_to_whole_info();

}  // namespace refute
