// Small whole models for claims about the forward pass: made from a seed, changed as a claim needs,
// and loaded as any file is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/gguf_names.h"
#include "engine/model.h"
#include "engine/synth.h"
#include "kernels/quant/tensor_type.h"
#include "kernels/result.h"

namespace refute {

enum class SyntheticShape {
  // hidden_size 64, 2 layers, 4 heads over 2 of head_dim 24 (4 * 24 is not 64), 16 experts top-8,
  // weights of F32, F16, BF16 and Q8_0, mixed over tensors and layers; 160 positions.
  kNarrow,
  // hidden_size 512 (two super-blocks), 1 layer, 3 heads over 1 of head_dim 64, 3 experts top-2
  // without
  // norm_topk_prob, weights of Q4_K, Q5_K and Q6_K; 64 positions.
  kWide,
};
SynthOptions synthetic_options(SyntheticShape shape, std::uint64_t seed);

// The file of a synthetic model.
class SyntheticFile {
 public:
  // Sees the stored bytes of one tensor.
  using TensorChange = std::function<void(TensorType type, std::span<std::byte> bytes)>;

  static Result<SyntheticFile> make(const SynthOptions& options);

  // A copy with one tensor changed.
  Result<SyntheticFile> with_tensor(TensorRole role, std::size_t layer,
                                    const TensorChange& change) const;
  // A copy in which `key` has another name of the same length, so that it is missing.
  // kMissingKey when it is missing already.
  Result<SyntheticFile> without_key(std::string_view key) const;

  Result<Model> load() const;

 private:
  explicit SyntheticFile(std::vector<std::byte> bytes) : bytes_(std::move(bytes)) {}

  std::vector<std::byte> bytes_;
};

// Changes for with_tensor.
SyntheticFile::TensorChange multiplied_by(float factor);
SyntheticFile::TensorChange set_to_zero();

}  // namespace refute
