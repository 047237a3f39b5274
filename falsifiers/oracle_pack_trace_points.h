// oracle_pack.trace_points: claim, reasons and limits are in the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

const FalsifierInfo& oracle_pack_trace_points_info();
Verdict falsify_oracle_pack_trace_points(const Subject& subject, const Criterion& criterion);

}  // namespace refute
