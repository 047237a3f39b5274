// forward.output_dimensions: claim, reasons and limits are in the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

const FalsifierInfo& forward_output_dimensions_info();
Verdict falsify_forward_output_dimensions(const Subject& subject, const Criterion& criterion);

}  // namespace refute
