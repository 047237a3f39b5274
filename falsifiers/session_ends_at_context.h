// session.ends_at_context: see the first comment of the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

Verdict falsify_session_ends_at_context(const Subject& subject, const Criterion& criterion);

const FalsifierInfo& session_ends_at_context_info();

}  // namespace refute
