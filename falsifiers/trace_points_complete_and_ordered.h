// trace.points_complete_and_ordered: claim, reasons and limits are in the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

const FalsifierInfo& trace_points_complete_and_ordered_info();
Verdict falsify_trace_points_complete_and_ordered(const Subject& subject,
                                                  const Criterion& criterion);

}  // namespace refute
