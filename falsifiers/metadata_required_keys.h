// metadata.required_keys: see the first comment of the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

Verdict falsify_metadata_required_keys(const Subject& subject, const Criterion& criterion);

const FalsifierInfo& metadata_required_keys_info();

}  // namespace refute
