// decode.replay_equals_launches: claim, reasons and limits are in the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

const FalsifierInfo& decode_replay_equals_launches_info();
Verdict falsify_decode_replay_equals_launches(const Subject& subject, const Criterion& criterion);

}  // namespace refute
