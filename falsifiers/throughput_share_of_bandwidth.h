// throughput.share_of_bandwidth: claim, reasons and limits are in the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

const FalsifierInfo& throughput_share_of_bandwidth_info();
// The same of any model, with a bandwidth in bytes a second.
Verdict judge_throughput(const Backend& backend, const Model& model, double bandwidth,
                         const Criterion& criterion);
Verdict falsify_throughput_share_of_bandwidth(const Subject& subject, const Criterion& criterion);

}  // namespace refute
