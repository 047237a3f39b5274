// activation.quantization_matches_definition: see the first comment of the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

Verdict falsify_quantization_matches_definition(const Subject& subject, const Criterion& criterion);

const FalsifierInfo& activation_quantization_matches_definition_info();

}  // namespace refute
