// What a model file says of its tokenizer.
#pragma once

#include <optional>

#include "engine/gguf.h"
#include "engine/tokenizer.h"
#include "kernels/result.h"

namespace refute {

// Empty when the file names no tokenizer. kMissingKey when it names one without tokens; kMalformed
// for values of the wrong type. Whether they make a tokenizer is for Tokenizer::create to say.
Result<std::optional<TokenizerData>> read_tokenizer_data(const GgufFile& file);

}  // namespace refute
