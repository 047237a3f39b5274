// Products of one input with several weights at once: their rows are handed to the threads as one
// range, and the input is quantized and arranged once for all of them. The numerics are those of
// kernels/matmul.h.
//
//   ProductInput input(x);
//   const Product products[] = {{{q_proj, tiles}, 0, x.rows, q}, {{k_proj}, 0, x.rows, k}};
//   multiply(context, input, products);
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "kernels/cpu/context.h"
#include "kernels/matrix.h"
#include "kernels/quant/activations.h"
#include "kernels/quant/dequantize.h"

namespace refute::cpu {

struct ActivationBlock;  // kernels/cpu/simd.h
struct TileActivations;  // kernels/cpu/tiles.h

// A weight and, where it was packed, the tiles of its whole row groups (kernels/cpu/tiles.h). Rows
// left over, and weights without tiles, are read as stored.
struct PlacedWeight {
  WeightView stored;
  const std::byte* tiles = nullptr;
};

class ProductInput;

// y = the rows [begin, end) of the input times the weight.
struct Product {
  PlacedWeight weight;
  std::size_t begin = 0;
  std::size_t end = 0;
  MatrixView<float> y;  // [end - begin, weight.rows]
};

// Told that columns [begin, end) of a product's y are there, by the thread that wrote them last,
// while they are in its cache; several threads call it at once.
using ColumnsDone = std::function<void(const Product& product, std::size_t begin, std::size_t end)>;

// Preconditions: shapes agree; quantized types have columns a multiple of their block size; ranges
// of rows are the same or disjoint, in all products of an input. next: the weights of the call that
// follows, where they are known already; the end of this one fetches their beginning. done, unless
// empty, hears of every column once.
void multiply(const Context& context, ProductInput& input, std::span<const Product> products,
              std::span<const PlacedWeight> next = {}, const ColumnsDone& done = {});

// The rows that enter products. Borrows what it is made of.
class ProductInput {
 public:
  explicit ProductInput(MatrixView<const float> x);
  explicit ProductInput(const QuantizedActivations& activations);
  // Row i is row rows[i] of `all`, which is quantized once however often a row is taken.
  ProductInput(ProductInput& all, std::span<const std::size_t> rows);
  ProductInput(const ProductInput&) = delete;
  ProductInput& operator=(const ProductInput&) = delete;
  ~ProductInput();

  std::size_t rows() const { return rows_; }
  std::size_t columns() const { return columns_; }

 private:
  friend void multiply_all(const Context&, ProductInput&, std::span<const Product>,
                           std::span<const PlacedWeight>, const ColumnsDone&);
  friend void multiply_with_faults(const Context&, ProductInput&, const Product&);
  friend void run_units(const Context&, const ProductInput&, const Product&, std::size_t,
                        std::size_t, const std::byte*);

  MatrixView<const float> floats();
  const QuantizedActivations& quantized(const Context& context);
  void prepare(const Context& context, std::span<const Product> products);
  void arrange_rows(const Context& context);
  void arrange_tiles(const Context& context, std::span<const Product> products);

  std::size_t rows_ = 0;
  std::size_t columns_ = 0;
  MatrixView<const float> x_;  // Null where it was not given.
  const QuantizedActivations* activations_ = nullptr;
  ProductInput* all_ = nullptr;  // With taken_: where the rows come from.
  std::span<const std::size_t> taken_;
  std::optional<Matrix<float>> own_floats_;
  std::optional<QuantizedActivations> own_activations_;
  std::unique_ptr<ActivationBlock[]> row_blocks_;  // [rows, ceil(columns / 256)]
  // Range by range; a range is split as TokenTiles says, every part [super_blocks][tokens].
  std::unique_ptr<TileActivations[]> tile_blocks_;
  std::vector<std::size_t> arranged_;  // By first row of a range: its end, or 0.
};

}  // namespace refute::cpu
