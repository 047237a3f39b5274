// Expectations of a model at every trace point: NAME.expected.gguf, float64 results stored as F32.
//
// Tensors: tokens, embedding, blk.N.{attn_norm, q_rope, k_rope, v, attn_heads, attn_out,
// attn_residual, ffn_norm, router_logits, router_index, router_weight, moe_out, ffn_residual},
// output_norm, logits; and, where the model was trained, greedy_tokens and nll_window.N.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "engine/config.h"
#include "engine/trace.h"
#include "kernels/result.h"

namespace refute {

// A prompt and its greedy continuation.
struct GreedyExpectation {
  std::vector<std::int32_t> tokens;  // Prompt and continuation.
  std::size_t prompt_length = 0;
  double smallest_margin = 0.0;  // Of the logits, over the continuation.
};

// Windows of tokens and the mean negative log likelihood (nats) of each token after the first.
struct NllExpectation {
  std::vector<std::vector<std::int32_t>> windows;
  double mean_nll = 0.0;
};

class OraclePack {
 public:
  // Every tensor must be known, finite and shaped as `config` says; a pack without tokens, logits
  // or any layer's trace points is kMalformed. Integers are read as trace points of kInt32.
  static Result<OraclePack> load(const std::filesystem::path& path, const Config& config);

  const std::filesystem::path& path() const { return path_; }
  const std::vector<std::int32_t>& tokens() const { return tokens_; }
  const std::map<TraceSite, TraceTensor>& tensors() const { return tensors_; }
  // Null when the pack does not hold it.
  const TraceTensor* find(TraceSite site) const;
  const std::optional<GreedyExpectation>& greedy() const { return greedy_; }
  const std::optional<NllExpectation>& nll() const { return nll_; }

 private:
  OraclePack() = default;

  std::filesystem::path path_;
  std::vector<std::int32_t> tokens_;
  std::map<TraceSite, TraceTensor> tensors_;
  std::optional<GreedyExpectation> greedy_;
  std::optional<NllExpectation> nll_;
};

}  // namespace refute
