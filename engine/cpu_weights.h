// A model's weights as the CPU multiplies them: a copy in tiles (kernels/cpu/tiles.h), still
// quantized and as many bytes as the file has for them. Everything else of the model is read
// where the file is mapped.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "engine/model.h"
#include "kernels/cpu/context.h"
#include "kernels/cpu/products.h"

namespace refute::cpu {

class PackedWeights {
 public:
  // No tiles at all.
  PackedWeights() = default;
  // Tiles of every matrix that can have them, where the context's products use tiles. Memory of a
  // large model's file that was copied is given back to the system, which reads it again should
  // anyone ask. `progress` hears how many of how many bytes of a large model are done, from one
  // thread at a time. Scales that are still to be looked at (ScaleCheck) are on the way:
  // kNonFinite.
  static Result<PackedWeights> create(
      const Context& context, const Model& model,
      const std::function<void(std::size_t done, std::size_t total)>& progress = {});
  ~PackedWeights();
  PackedWeights(PackedWeights&& other) noexcept;
  PackedWeights& operator=(PackedWeights&& other) noexcept;

  // The matrix with its tiles, if it lies in row groups of what was packed.
  PlacedWeight place(const WeightView& weight) const;

  std::size_t bytes() const { return bytes_; }

 private:
  // Consecutive rows as the file stores them.
  struct Range {
    TensorType type;
    std::size_t rows;
    std::size_t columns;
    const std::byte* data;
    std::size_t offset;  // Of the tiles.

    std::size_t bytes() const;  // Of the tiles.
  };
  void add(const WeightView& weight);
  void add(const ExpertStack& stack);
  void allocate_tiles(const Model& model);
  // The row groups [begin, end) of a range.
  void pack(const Range& range, std::size_t begin, std::size_t end);
  bool is_large() const;

  std::vector<Range> ranges_;  // By address.
  std::byte* tiles_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace refute::cpu
