// kv_cache.overflow_is_error: see the first comment of the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

Verdict falsify_kv_cache_overflow_is_error(const Subject& subject, const Criterion& criterion);

const FalsifierInfo& kv_cache_overflow_is_error_info();

}  // namespace refute
