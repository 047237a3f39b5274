// shape.rejects_bad_arguments: see the first comment of the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

Verdict falsify_rejects_bad_arguments(const Subject& subject, const Criterion& criterion);

const FalsifierInfo& shape_rejects_bad_arguments_info();

}  // namespace refute
