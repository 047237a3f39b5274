// throughput.share_of_bandwidth: claim, reasons and limits are in the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

const FalsifierInfo& throughput_share_of_bandwidth_info();
Verdict falsify_throughput_share_of_bandwidth(const Subject& subject, const Criterion& criterion);

}  // namespace refute
