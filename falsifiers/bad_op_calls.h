// The part of the table of bad arguments that concerns the MoE block and the ops.
#pragma once

#include "falsifiers/bad_calls.h"
#include "falsifiers/call_recorder.h"

namespace refute {

void add_moe_calls(const CallMaterial& material, CallRecorder* calls);
void add_op_calls(const CallMaterial& material, CallRecorder* calls);

}  // namespace refute
