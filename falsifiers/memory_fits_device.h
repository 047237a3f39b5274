// memory.fits_device: claim, reasons and limits are in the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

const FalsifierInfo& memory_fits_device_info();
Verdict falsify_memory_fits_device(const Subject& subject, const Criterion& criterion);

}  // namespace refute
