// Weights in GPU memory: repacked into tiles (kernels/cuda/tiles.h), still quantized, byte for byte
// as many as the file has.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/model.h"
#include "kernels/cuda/decode_ops.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/ops.h"
#include "kernels/quant/dequantize.h"
#include "kernels/result.h"

namespace refute::cuda {

// Uploaded matrices and vectors, by the numbers that WeightUpload gave them.
class DeviceWeights {
 public:
  const DeviceMatrix& matrix(std::size_t index) const { return matrices_[index]; }
  const float* vector(std::size_t index) const {
    return reinterpret_cast<const float*>(matrices_[index].data);
  }
  std::size_t bytes() const { return memory_.bytes(); }
  const std::uint8_t* data() const { return memory_.data(); }
  const DeviceBuffer<std::uint8_t>& memory() const { return memory_; }

 private:
  friend class WeightUpload;
  DeviceBuffer<std::uint8_t> memory_;
  std::vector<DeviceMatrix> matrices_;
};

// What is to be uploaded, so that its size is known before anything is.
class WeightUpload {
 public:
  // Each returns the number of the weight. Sources are borrowed until run().
  std::size_t add(const WeightView& weight);
  std::size_t add(const ExpertStack& stack);
  std::size_t add(std::span<const float> vector);

  std::size_t bytes() const { return bytes_; }
  // kOutOfMemory naming `what`, need and have.
  Result<DeviceWeights> run(const Context& context, const std::string& what) const;

 private:
  struct Item {
    TensorType type;
    std::size_t rows;
    std::size_t columns;
    std::vector<const std::byte*> experts;  // Where each one's rows start; one for a plain matrix.
    std::size_t offset;                     // In device memory.
    bool tiled;
  };
  // Some rows of one expert, to be moved at a time.
  struct Piece {
    const Item* item;
    const std::byte* from;
    std::size_t rows;
    std::size_t offset;
  };
  std::size_t add(Item item);
  std::vector<Piece> pieces() const;
  static void copy_piece(const Piece& piece, std::byte* to);
  Result<void> upload_small(const Context& context, std::uint8_t* memory) const;
  Result<void> upload_large(std::uint8_t* memory) const;

  std::vector<Item> items_;
  std::size_t bytes_ = 0;
};

// A model's weights.
class DeviceModel {
 public:
  static Result<DeviceModel> upload(const Context& context, const Model& model);
  // Bytes of device memory that upload takes.
  static std::size_t bytes_for(const Model& model);

  const DeviceMatrix& embed_tokens() const { return embed_tokens_; }
  const std::vector<DeviceLayer>& layers() const { return layers_; }
  const float* norm() const { return norm_; }
  const DeviceMatrix& lm_head() const { return lm_head_; }
  const DeviceWeights& weights() const { return weights_; }

 private:
  DeviceWeights weights_;
  DeviceMatrix embed_tokens_;
  std::vector<DeviceLayer> layers_;
  const float* norm_ = nullptr;
  DeviceMatrix lm_head_;
};

}  // namespace refute::cuda
