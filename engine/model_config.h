// A model file's hyperparameters: from metadata alone, without defaults for what a model needs.
#pragma once

#include <string>

#include "engine/config.h"
#include "engine/gguf.h"
#include "kernels/result.h"

namespace refute {

// kMissingKey names the key and the file; kMalformed a value of the wrong type or outside its
// range, or statements that contradict each other (vocab_size, the tokenizer, embed_tokens);
// kUnsupported an architecture, an option or a `qwen3moe.` key that is not implemented. vocab_size
// is the number of rows of embed_tokens; a file without an lm_head ties it to them.
Result<Config> read_config(const GgufFile& file);

// kMalformed when a field is 0, too large or does not fit another one; `where` names the model.
Result<void> check_config(const Config& config, const std::string& where);

}  // namespace refute
