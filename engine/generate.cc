#include "engine/generate.h"

#include <chrono>

namespace refute {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// The next token by the last row of the logits of `tokens`.
Result<std::int32_t> next_token(Session& session, Sampler& sampler,
                                std::span<const std::int32_t> tokens) {
  if (sampler.is_greedy() && tokens.size() == 1) {  // Without its logits, which may be far away.
    const auto likeliest = session.decode_greedy(tokens.front(), 1);
    if (!likeliest) return likeliest.error();
    return likeliest->front();
  }
  auto logits = session.forward(tokens, ForwardOptions{});
  if (!logits) return logits.error();
  const std::vector<float> row(logits->flat().begin(), logits->flat().end());
  return sampler.sample(row);
}

}  // namespace

Result<std::vector<std::int32_t>> generate(Session& session, Sampler& sampler,
                                           std::span<const std::int32_t> prompt,
                                           const GenerateOptions& options,
                                           GenerateStatistics* statistics) {
  GenerateStatistics discarded;
  GenerateStatistics& counts = statistics != nullptr ? *statistics : discarded;
  counts = {};
  counts.prompt_tokens = prompt.size();
  std::vector<std::int32_t> generated;
  if (options.max_new_tokens == 0) return generated;

  auto start = std::chrono::steady_clock::now();
  auto token = next_token(session, sampler, prompt);
  if (!token) return token.error();
  counts.prefill_seconds = seconds_since(start);

  start = std::chrono::steady_clock::now();
  while (options.stop_token != *token) {
    generated.push_back(*token);
    if (options.on_token && !options.on_token(*token)) break;
    if (generated.size() == options.max_new_tokens || session.length() == session.capacity()) break;
    token = next_token(session, sampler, {&generated.back(), 1});
    if (!token) return token.error();
    ++counts.decoded_tokens;
  }
  counts.decode_seconds = seconds_since(start);
  return generated;
}

}  // namespace refute
