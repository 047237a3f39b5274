// provenance.executed_backend: claim, reasons and limits are in the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

const FalsifierInfo& provenance_executed_backend_info();
Verdict falsify_provenance_executed_backend(const Subject& subject, const Criterion& criterion);

}  // namespace refute
