// Chooses the next token from logits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/result.h"

namespace refute {

// The filters apply in the order of the fields; each sees what the ones before it left. A higher
// logit ranks first, and of equal logits the lower id.
struct SamplingOptions {
  double temperature = 0;  // 0 is greedy: the highest rank, whatever the filters say.
  std::size_t top_k = 0;   // Keeps the top_k highest ranks; 0 keeps all.
  double top_p = 1;        // Keeps the highest ranks until their mass reaches top_p; at least one.
  double min_p = 0;        // Keeps tokens at least min_p times as probable as the highest rank.
  std::uint64_t seed = 0;  // Equal seeds, options and logits give equal tokens on every platform.
};

class Sampler {
 public:
  // kUnsupported names the option: temperature negative, infinite or NaN; top_p or min_p outside
  // [0, 1].
  static Result<Sampler> create(const SamplingOptions& options);

  // Whether sample takes the highest rank.
  bool is_greedy() const { return options_.temperature == 0; }

  // The index of the chosen logit. A logit of -Inf is never chosen. kInvalidShape: no logits, or
  // more than 2^31 - 1. kNonFinite: a NaN or +Inf logit, named by its index, or -Inf alone. Every
  // call that succeeds at a temperature above 0 draws one random number.
  Result<std::int32_t> sample(std::span<const float> logits);

 private:
  explicit Sampler(const SamplingOptions& options) : options_(options), state_(options.seed) {}
  double next_uniform();

  SamplingOptions options_;
  std::uint64_t state_;
};

}  // namespace refute
