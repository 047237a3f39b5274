#include "kernels/cpu/products.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "kernels/check.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/tiles.h"
#include "kernels/cpu/work.h"
#include "kernels/faulty/product.h"
#include "kernels/matmul.h"

namespace refute::cpu {
namespace {

// Rows that are walked together: all of them for some tokens before the next tokens, so that
// weights come from memory once and the tokens' activations stay in the first-level cache.
constexpr std::size_t kRowTile = kTileRows;
constexpr std::size_t kRowTokens = 4;  // Tokens of one pass over stored rows.
// Units whose results are told of at a time: 4 KiB a token.
constexpr std::size_t kDoneUnits = 64;

// Splits the tokens of a range as evenly as kTileTokens allows.
class TokenTiles {
 public:
  explicit TokenTiles(std::size_t num_tokens)
      : left_(num_tokens), tiles_((num_tokens + kTileTokens - 1) / kTileTokens) {}
  bool done() const { return tiles_ == 0; }
  std::size_t size() const { return (left_ + tiles_ - 1) / tiles_; }
  void next() {
    left_ -= size();
    --tiles_;
  }

 private:
  std::size_t left_;
  std::size_t tiles_;
};

std::size_t super_blocks_of(std::size_t columns) {
  return (columns + kTileColumns - 1) / kTileColumns;
}

bool is_quantized(const Product& product) {
  return tensor_type_info(product.weight.stored.type).is_quantized;
}

// Whether some rows are read as stored.
bool reads_rows(const Product& product) {
  return product.weight.tiles == nullptr || product.weight.stored.rows % kTileRows != 0;
}

// Rearranges one token, see ActivationBlock. blocks must be zero.
void arrange_row(const QuantizedActivations& activations, std::size_t token,
                 ActivationBlock* blocks) {
  const std::int8_t* const q = activations.q.data() + token * activations.columns;
  const std::size_t first = token * activations.blocks();
  for (std::size_t b = 0; b < activations.blocks(); ++b) {
    ActivationBlock& block = blocks[b / 8];
    const std::size_t pair = b % 8 / 2;
    const std::size_t parity = b % 2;
    std::copy_n(q + 32 * b, 32, block.q + 32 * (b % 8));
    block.d[4 * parity + pair] = activations.d[first + b];
    block.sums[4 * parity + pair] = activations.sums[first + b];
    std::int32_t first_half = 0;
    for (std::size_t i = 0; i < 16; ++i) first_half += q[32 * b + i];
    block.half_sums[8 * parity + pair] = 32 * first_half;
    block.half_sums[8 * parity + 4 + pair] = 32 * (activations.sums[first + b] - first_half);
  }
}

DotQuantized dot_quantized(const SimdKernels& simd, TensorType type) {
  switch (type) {
    case TensorType::kQ8_0:
      return simd.dot_q8_0;
    case TensorType::kQ4_K:
      return simd.dot_q4_k;
    case TensorType::kQ5_K:
      return simd.dot_q5_k;
    case TensorType::kQ6_K:
      return simd.dot_q6_k;
    default:
      CHECK(false);
      return nullptr;
  }
}

DotFloat dot_float(const SimdKernels& simd, TensorType type) {
  switch (type) {
    case TensorType::kF32:
      return simd.dot_f32;
    case TensorType::kF16:
      return simd.dot_f16;
    case TensorType::kBF16:
      return simd.dot_bf16;
    default:
      CHECK(false);
      return nullptr;
  }
}

TileKernels::Multiply multiply_tiles(const TileKernels& kernels, TensorType type) {
  switch (type) {
    case TensorType::kQ8_0:
      return kernels.q8_0;
    case TensorType::kQ4_K:
      return kernels.q4_k;
    case TensorType::kQ5_K:
      return kernels.q5_k;
    case TensorType::kQ6_K:
      return kernels.q6_k;
    default:
      CHECK(false);
      return nullptr;
  }
}

// Calls body(row, first_token, tokens) for every row in [begin, end), tile by tile.
template <typename Body>
void for_each_row(std::size_t begin, std::size_t end, std::size_t num_tokens, const Body& body) {
  for (std::size_t tile = begin; tile < end; tile += kRowTile) {
    const std::size_t tile_end = std::min(tile + kRowTile, end);
    for (std::size_t t = 0; t < num_tokens; t += kRowTokens) {
      const std::size_t tokens = std::min(kRowTokens, num_tokens - t);
      for (std::size_t r = tile; r < tile_end; ++r) body(r, t, tokens);
    }
  }
}

void multiply_stored_rows(const SimdKernels& simd, const WeightView& weight,
                          const ActivationBlock* x, std::size_t begin, std::size_t end,
                          MatrixView<float> y) {
  const DotQuantized dot = dot_quantized(simd, weight.type);
  const std::size_t super_blocks = super_blocks_of(weight.columns);
  const std::size_t bytes_per_row = weight.bytes_per_row();
  for_each_row(begin, end, y.rows, [&](std::size_t r, std::size_t t, std::size_t tokens) {
    dot(weight.data + r * bytes_per_row, weight.columns, x + t * super_blocks, tokens,
        y.data + t * y.columns + r, y.columns);
  });
}

// One token waits for memory, so the next row is asked for while one is multiplied.
void multiply_float_token(DotFloat dot, const WeightView& weight, const float* x, std::size_t begin,
                          std::size_t end, float* y) {
  const std::size_t bytes_per_row = weight.bytes_per_row();
  for (std::size_t r = begin; r < end; ++r) {
    const std::byte* const row = weight.data + r * bytes_per_row;
    if (r + 1 < end) {
      for (std::size_t at = 0; at < bytes_per_row; at += 64) {
        __builtin_prefetch(row + bytes_per_row + at);
      }
    }
    y[r] = dot(row, x, weight.columns);
  }
}

void multiply_float_rows(const SimdKernels& simd, const WeightView& weight, const float* x,
                         std::size_t begin, std::size_t end, MatrixView<float> y) {
  const DotFloat dot = dot_float(simd, weight.type);
  // Measured with AVX-512 alone.
  if (y.rows == 1 && simd.isa == Isa::kAvx512Vnni) {
    multiply_float_token(dot, weight, x, begin, end, y.data);
    return;
  }
  const std::size_t bytes_per_row = weight.bytes_per_row();
  for_each_row(begin, end, y.rows, [&](std::size_t r, std::size_t first, std::size_t tokens) {
    for (std::size_t t = first; t < first + tokens; ++t) {
      y.data[t * y.columns + r] =
          dot(weight.data + r * bytes_per_row, x + t * weight.columns, weight.columns);
    }
  });
}

// The units of several weights in turn: kRowTile rows each.
class Units {
 public:
  explicit Units(std::span<const Product> products) {
    for (const Product& product : products) add(product.weight);
  }
  explicit Units(std::span<const PlacedWeight> weights) {
    for (const PlacedWeight& weight : weights) add(weight);
  }
  std::size_t count() const { return ends_.empty() ? 0 : ends_.back(); }
  // Which weight a unit < count() is of, and which units are a weight's.
  std::size_t index_of(std::size_t unit) const {
    return static_cast<std::size_t>(std::ranges::upper_bound(ends_, unit) - ends_.begin());
  }
  IndexRange of(std::size_t index) const {
    return {index == 0 ? 0 : ends_[index - 1], ends_[index]};
  }
  // The tiles of a unit; null where there are none.
  const std::byte* tiles(std::size_t unit) const {
    if (unit >= count()) return nullptr;
    const std::size_t index = index_of(unit);
    const WeightView& stored = weights_[index].stored;
    const std::size_t group = unit - of(index).begin;
    if (weights_[index].tiles == nullptr || group >= stored.rows / kTileRows) return nullptr;
    return weights_[index].tiles + group * group_bytes(stored.type, stored.columns);
  }

 private:
  void add(const PlacedWeight& weight) {
    ends_.push_back(count() + (weight.stored.rows + kRowTile - 1) / kRowTile);
    weights_.push_back(weight);
  }
  std::vector<PlacedWeight> weights_;
  std::vector<std::size_t> ends_;  // Of each weight's units.
};

// The tiles that the thread which ends a range at `end` reads next: those of its share of the units
// or, after them, of its share of the next ones.
const std::byte* tiles_after(const ThreadPool& threads, const Units& units, std::size_t grain,
                             const Units& next, std::size_t end) {
  for (std::size_t i = 0; i < threads.num_threads(); ++i) {
    if (threads.share(units.count(), grain, i).end == end) {
      return next.tiles(threads.share(next.count(), 1, i).begin);
    }
  }
  return units.tiles(end);
}

// The row groups [begin, end); x: the activations of all tokens; then: see TileKernels.
void multiply_groups(const SimdKernels& simd, const PlacedWeight& weight, const TileActivations* x,
                     std::size_t begin, std::size_t end, const std::byte* then,
                     MatrixView<float> y) {
  const TileKernels::Multiply multiply = multiply_tiles(*simd.tiles, weight.stored.type);
  const std::size_t super_blocks = super_blocks_of(weight.stored.columns);
  const std::size_t bytes = group_bytes(weight.stored.type, weight.stored.columns);
  // One pass needs no return to a group; several passes take a group from the cache.
  const std::size_t step = y.rows <= kTileTokens ? end - begin : 1;
  for (std::size_t g = begin; g < end; g += step) {
    std::size_t t = 0;
    for (TokenTiles tokens(y.rows); !tokens.done(); tokens.next()) {
      multiply(weight.tiles + g * bytes, step, super_blocks, x + t * super_blocks, tokens.size(),
               g + step == end ? then : weight.tiles + (g + step) * bytes,
               y.data + t * y.columns + g * kTileRows, y.columns);
      t += tokens.size();
    }
  }
}

void check_shapes(const ProductInput& input, const Product& product) {
  const WeightView& weight = product.weight.stored;
  CHECK(product.begin <= product.end && product.end <= input.rows());
  CHECK(weight.columns == input.columns());
  CHECK(weight.columns % tensor_type_info(weight.type).block_size == 0);
  CHECK(product.y.rows == product.end - product.begin);
  CHECK(product.y.columns == weight.rows);
}

// Some rows of `activations`.
QuantizedActivations rows_of(const QuantizedActivations& activations,
                             std::span<const std::size_t> rows) {
  QuantizedActivations taken;
  taken.resize(rows.size(), activations.columns);
  const std::size_t columns = activations.columns;
  const std::size_t blocks = activations.blocks();
  for (std::size_t i = 0; i < rows.size(); ++i) {
    std::copy_n(activations.q.data() + rows[i] * columns, columns, taken.q.data() + i * columns);
    std::copy_n(activations.d.data() + rows[i] * blocks, blocks, taken.d.data() + i * blocks);
    std::copy_n(activations.sums.data() + rows[i] * blocks, blocks, taken.sums.data() + i * blocks);
  }
  return taken;
}

}  // namespace

// The units [begin, end) of a product, kRowTile rows each; then: see TileKernels.
void run_units(const Context& context, const ProductInput& input, const Product& product,
               std::size_t begin, std::size_t end, const std::byte* then) {
  const SimdKernels& simd = context.simd();
  const WeightView& weight = product.weight.stored;
  const std::size_t first_row = begin * kRowTile;
  const std::size_t last_row = std::min(end * kRowTile, weight.rows);
  if (!is_quantized(product)) {
    const float* const x = (input.own_floats_ ? input.own_floats_->data() : input.x_.data) +
                           product.begin * input.columns_;
    multiply_float_rows(simd, weight, x, first_row, last_row, product.y);
    return;
  }
  const std::size_t first_block = product.begin * super_blocks_of(weight.columns);
  std::size_t stored_from = first_row;
  if (product.weight.tiles != nullptr) {
    const std::size_t groups_end = std::min(end, weight.rows / kTileRows);
    if (begin < groups_end) {
      multiply_groups(simd, product.weight, input.tile_blocks_.get() + first_block, begin,
                      groups_end, then, product.y);
    }
    stored_from = std::max(first_row, groups_end * kTileRows);
  }
  if (stored_from < last_row) {
    multiply_stored_rows(simd, weight, input.row_blocks_.get() + first_block, stored_from, last_row,
                         product.y);
  }
}

ProductInput::ProductInput(MatrixView<const float> x) : rows_(x.rows), columns_(x.columns), x_(x) {}

ProductInput::ProductInput(const QuantizedActivations& activations)
    : rows_(activations.rows), columns_(activations.columns), activations_(&activations) {}

ProductInput::ProductInput(ProductInput& all, std::span<const std::size_t> rows)
    : rows_(rows.size()), columns_(all.columns_), all_(&all), taken_(rows) {}

ProductInput::~ProductInput() = default;

MatrixView<const float> ProductInput::floats() {
  if (x_.data != nullptr || rows_ == 0 || columns_ == 0) return x_;
  if (!own_floats_) {
    CHECK(all_ != nullptr);
    const MatrixView<const float> from = all_->floats();
    own_floats_.emplace(rows_, columns_);
    for (std::size_t i = 0; i < rows_; ++i) {
      std::ranges::copy(from.row(taken_[i]), own_floats_->row(i).begin());
    }
  }
  return std::as_const(*own_floats_).view();
}

const QuantizedActivations& ProductInput::quantized(const Context& context) {
  if (activations_ != nullptr) return *activations_;
  if (all_ != nullptr) {
    own_activations_ = rows_of(all_->quantized(context), taken_);
  } else {
    quantize_activations(context, x_, &own_activations_.emplace());
  }
  activations_ = &*own_activations_;
  return *activations_;
}

void ProductInput::arrange_rows(const Context& context) {
  if (row_blocks_) return;
  const QuantizedActivations& activations = quantized(context);
  const std::size_t super_blocks = super_blocks_of(columns_);
  row_blocks_ = std::make_unique<ActivationBlock[]>(rows_ * super_blocks);
  context.threads().parallel_for(
      rows_, grain_for(2 * columns_), [&](std::size_t begin, std::size_t end) {
        for (std::size_t t = begin; t < end; ++t) {
          arrange_row(activations, t, row_blocks_.get() + t * super_blocks);
        }
      });
}

void ProductInput::arrange_tiles(const Context& context, std::span<const Product> products) {
  const QuantizedActivations& activations = quantized(context);
  const std::size_t super_blocks = super_blocks_of(columns_);
  if (!tile_blocks_) {
    tile_blocks_ = std::make_unique_for_overwrite<TileActivations[]>(rows_ * super_blocks);
    arranged_.assign(rows_, 0);
  }
  // Every token that is new: where its first block goes, and how far apart its blocks are.
  struct Place {
    std::size_t token, at, stride;
  };
  std::vector<Place> places;
  for (const Product& product : products) {
    if (product.weight.tiles == nullptr || product.begin == product.end) continue;
    std::size_t& known = arranged_[product.begin];
    CHECK(known == 0 || known == product.end);
    if (known != 0) continue;
    known = product.end;
    std::size_t first = product.begin;
    for (TokenTiles tiles(product.end - product.begin); !tiles.done(); tiles.next()) {
      for (std::size_t t = 0; t < tiles.size(); ++t) {
        places.push_back({first + t, first * super_blocks + t, tiles.size()});
      }
      first += tiles.size();
    }
  }
  const std::size_t blocks = activations.blocks();
  context.threads().parallel_for(
      places.size(), grain_for(columns_ / 2), [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i) {
          const Place& place = places[i];
          context.simd().tiles->arrange(activations.q.data() + place.token * columns_,
                                        activations.d.data() + place.token * blocks,
                                        activations.sums.data() + place.token * blocks,
                                        super_blocks, tile_blocks_.get() + place.at, place.stride);
        }
      });
}

void ProductInput::prepare(const Context& context, std::span<const Product> products) {
  bool stored = false;
  bool tiles = false;
  for (const Product& product : products) {
    if (!is_quantized(product)) {
      floats();
      continue;
    }
    stored |= reads_rows(product);
    tiles |= product.weight.tiles != nullptr;
  }
  if (stored) arrange_rows(context);
  if (tiles) arrange_tiles(context, products);
}

void multiply_all(const Context& context, ProductInput& input, std::span<const Product> products,
                  std::span<const PlacedWeight> next, const ColumnsDone& done) {
  input.prepare(context, products);
  const Units units(products);
  if (units.count() == 0) return;
  const Units next_units(next);
  std::size_t operations = 0;
  for (std::size_t i = 0; i < products.size(); ++i) {
    const std::size_t count = units.of(i).end - units.of(i).begin;
    operations += count * kRowTile * input.columns() * products[i].y.rows;
  }
  const std::size_t grain = grain_for(operations / units.count());
  context.threads().parallel_for(units.count(), grain, [&](std::size_t begin, std::size_t end) {
    const std::byte* const last = tiles_after(context.threads(), units, grain, next_units, end);
    for (std::size_t i = units.index_of(begin); begin < end; ++i) {
      const IndexRange of = units.of(i);
      while (begin < std::min(end, of.end)) {
        const std::size_t stop = std::min({end, of.end, done ? begin + kDoneUnits : end});
        const std::byte* const then = stop < end ? units.tiles(stop) : last;
        run_units(context, input, products[i], begin - of.begin, stop - of.begin, then);
        if (done) {
          done(products[i], (begin - of.begin) * kRowTile,
               std::min((stop - of.begin) * kRowTile, products[i].y.columns));
        }
        begin = stop;
      }
    }
  });
}

// Products of inputs that may be wrong on purpose; those of stored rows that were changed read
// rows.
void multiply_with_faults(const Context& context, ProductInput& input, const Product& product) {
  if constexpr (kFaultSites) {
    const WeightView& stored = product.weight.stored;
    const auto right = [&](ProductInput& rows, const WeightView& weight, MatrixView<float> y) {
      const bool unchanged = weight.data == stored.data && weight.columns == stored.columns;
      const PlacedWeight placed{weight, unchanged ? product.weight.tiles : nullptr};
      const Product one{placed, 0, rows.rows(), y};
      multiply_all(context, rows, {&one, 1}, {}, {});
    };
    if (!is_quantized(product)) {
      const MatrixView<const float> all = input.floats();
      const MatrixView<const float> x(all.data + product.begin * all.columns,
                                      product.end - product.begin, all.columns);
      faulty::matmul_float(context, stored, x, product.y,
                           [&](const Context&, const WeightView& weight,
                               MatrixView<const float> rows, MatrixView<float> y) {
                             ProductInput part(rows);
                             right(part, weight, y);
                           });
      return;
    }
    std::vector<std::size_t> numbers(product.end - product.begin);
    std::iota(numbers.begin(), numbers.end(), product.begin);
    const QuantizedActivations activations = rows_of(input.quantized(context), numbers);
    faulty::matmul_quantized(context, stored, activations, product.y,
                             [&](const Context&, const WeightView& weight,
                                 const QuantizedActivations& rows, MatrixView<float> y) {
                               ProductInput part(rows);
                               right(part, weight, y);
                             });
  }
}

void multiply(const Context& context, ProductInput& input, std::span<const Product> products,
              std::span<const PlacedWeight> next, const ColumnsDone& done) {
  for (const Product& product : products) check_shapes(input, product);
  if constexpr (kFaultSites) {
    for (const Product& product : products) {
      multiply_with_faults(context, input, product);
      if (done) done(product, 0, product.y.columns);
    }
  } else {
    multiply_all(context, input, products, next, done);
  }
}

}  // namespace refute::cpu
