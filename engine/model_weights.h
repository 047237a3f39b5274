// Finds a model's tensors in its file and checks them against the configuration. For Model::load.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/config.h"
#include "engine/gguf.h"
#include "engine/model.h"
#include "engine/model_layout.h"
#include "engine/weight_scan.h"
#include "kernels/result.h"

namespace refute {

// Every function returns an empty weight once one has failed, so that a caller can ask for all
// weights in a straight line and look at error() afterwards: it is the first one.
class WeightFinder {
 public:
  // Both must outlive it.
  WeightFinder(const GgufFile& file, const Config& config);

  WeightView matrix(TensorRole role, std::size_t layer = 0);
  ExpertStack experts(TensorRole role, std::size_t layer);
  // As float32; kNonFinite when an element is NaN or Inf.
  std::vector<float> norm(TensorRole role, std::size_t layer = 0);

  // kInvalidShape for a shape or byte count, kMalformed for a tensor that is missing, kUnsupported
  // for a type; each names tensor, expected and found.
  const std::optional<Error>& error() const { return error_; }
  // kUnsupported naming the first tensor of the file that nobody asked for: to leave it out would
  // compute a different model.
  Result<void> check_nothing_left() const;
  // What was found, in order; norms, which are checked already, left out.
  const std::vector<ScannedTensor>& matrices() const { return matrices_; }
  // Bytes of all tensors found.
  std::size_t bytes() const { return bytes_; }

 private:
  struct Entry {
    const GgufTensor* tensor = nullptr;
    bool used = false;
  };

  // Null after an error, else a tensor of the right shape, byte count and a type that `role` takes.
  const GgufTensor* find(TensorRole role, std::size_t layer);
  void fail(ErrorKind kind, const std::string& name, std::string expected, std::string found);

  const GgufFile& file_;
  const Config& config_;
  std::unordered_map<std::string, Entry> entries_;
  std::optional<Error> error_;
  std::vector<ScannedTensor> matrices_;
  std::size_t bytes_ = 0;
};

}  // namespace refute
