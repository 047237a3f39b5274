// session.resets_cleanly: claim, reasons and limits are in the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

const FalsifierInfo& session_resets_cleanly_info();
Verdict falsify_session_resets_cleanly(const Subject& subject, const Criterion& criterion);

}  // namespace refute
