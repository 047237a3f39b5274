// The generation loop: prefill of a prompt, then one token at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "engine/backend.h"
#include "engine/sampler.h"
#include "kernels/result.h"

namespace refute {

struct GenerateOptions {
  std::size_t max_new_tokens = 32;
  std::optional<std::int32_t> stop_token;  // Ends the text; not part of it.
  // Called with each new token; returning false ends the loop.
  std::function<bool(std::int32_t token)> on_token;
};

struct GenerateStatistics {
  double prefill_seconds = 0.0;
  double decode_seconds = 0.0;
  std::size_t prompt_tokens = 0;
  std::size_t decoded_tokens = 0;  // Tokens that a forward pass of their own produced.
};

// Appends `prompt` to the session and returns the new tokens. The same errors as Session::forward
// and Sampler::sample; kContextFull only when the prompt itself does not fit: a full context ends
// the text.
Result<std::vector<std::int32_t>> generate(Session& session, Sampler& sampler,
                                           std::span<const std::int32_t> prompt,
                                           const GenerateOptions& options,
                                           GenerateStatistics* statistics = nullptr);

}  // namespace refute
