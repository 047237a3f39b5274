// The metadata of a synthetic model, as the public converter writes it for a real one.
#pragma once

#include "engine/gguf.h"
#include "engine/synth.h"

namespace refute {

// Hyperparameters and tokenizer.
void add_synth_metadata(const SynthOptions& options, GgufWriter& writer);

}  // namespace refute
