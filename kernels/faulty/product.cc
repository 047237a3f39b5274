#include "kernels/faulty/product.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/faulty/blocks.h"
#include "kernels/quant/half.h"

namespace refute::faulty {
namespace {

constexpr FaultHost kCpu = FaultHost::kCpu;
// A kernel's tile of rows, for F76.
constexpr std::size_t kRowTile = 16;

// Every addition rounds to float16.
template <typename Real>
Real dot_in_half(std::span<const Real> row, const Real* x) {
  float sum = 0.0f;
  for (std::size_t c = 0; c < row.size(); ++c) {
    sum = float_from_half(half_from_float(sum + static_cast<float>(x[c] * row[c])));
  }
  return static_cast<Real>(sum);
}

template <typename Real>
void multiply_in_half(const WeightView& weight, MatrixView<const Real> x, MatrixView<Real> y) {
  std::vector<Real> row(weight.columns);
  for (std::size_t r = 0; r < weight.rows; ++r) {
    dequantize_row(weight.type, weight.row(r), std::span<Real>(row));
    for (std::size_t t = 0; t < x.rows; ++t) {
      y.data[t * y.columns + r] = dot_in_half<Real>(row, x.data + t * x.columns);
    }
  }
}

// q * d in float32.
std::vector<float> dequantized(const QuantizedActivations& activations) {
  std::vector<float> x(activations.rows * activations.columns);
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = static_cast<float>(activations.q[i]) * activations.d[i / 32];
  }
  return x;
}

struct Q6KFault {
  bool no_offset;
  bool unsigned_scale;
};

// v of block b, kernels/matmul.h, with wrong integers.
float q6_k_block(const BlockQ6K& block, std::size_t b, const std::int8_t* x, Q6KFault fault) {
  std::int32_t dot[2] = {};
  for (std::size_t i = 0; i < 32; ++i) {
    const std::size_t at = 32 * b + i;  // In the super-block.
    const std::size_t half = at / 128;
    const std::size_t quarter = at % 128 / 32;
    const int byte = block.q_low[64 * half + 32 * (quarter % 2) + i];
    const int low = quarter < 2 ? byte & 15 : byte >> 4;
    const int high = (block.q_high[32 * half + i] >> (2 * quarter)) & 3;
    dot[i / 16] += ((low | (high << 4)) - (fault.no_offset ? 0 : 32)) * x[i];
  }
  std::int32_t sum = 0;
  for (std::size_t i = 0; i < 2; ++i) {
    const int scale = block.scales[2 * b + i];
    sum += (fault.unsigned_scale && scale < 0 ? scale + 256 : scale) * dot[i];
  }
  return float_from_half(block.d) * static_cast<float>(sum);
}

// The order of kernels/matmul.h in plain loops.
void multiply_q6_k(const WeightView& weight, const QuantizedActivations& activations,
                   Q6KFault fault, MatrixView<float> y) {
  for (std::size_t r = 0; r < weight.rows; ++r) {
    for (std::size_t t = 0; t < activations.rows; ++t) {
      float total = 0.0f;
      for (std::size_t s = 0; s < weight.columns / 256; ++s) {
        BlockQ6K block;
        std::memcpy(&block, weight.row(r) + s * sizeof(block), sizeof(block));
        const std::int8_t* const q = activations.q.data() + t * activations.columns + 256 * s;
        const float* const d = activations.d.data() + t * activations.blocks() + 8 * s;
        float u[4];
        for (std::size_t p = 0; p < 4; ++p) {
          const float even = q6_k_block(block, 2 * p, q + 64 * p, fault);
          const float odd = q6_k_block(block, 2 * p + 1, q + 64 * p + 32, fault);
          u[p] = std::fma(d[2 * p + 1], odd, d[2 * p] * even);
        }
        total += (u[0] + u[1]) + (u[2] + u[3]);
      }
      y.data[t * y.columns + r] = total;
    }
  }
}

// Columns [begin, end) of the stored rows, as rows of their own.
std::vector<std::byte> stored_columns(const WeightView& weight, std::size_t begin,
                                      std::size_t end) {
  const std::size_t first = row_bytes(weight.type, begin);
  const std::size_t last = row_bytes(weight.type, end);
  std::vector<std::byte> bytes;
  for (std::size_t r = 0; r < weight.rows; ++r) {
    bytes.insert(bytes.end(), weight.row(r) + first, weight.row(r) + last);
  }
  return bytes;
}

template <typename T>
std::vector<T> columns_of(const std::vector<T>& values, std::size_t rows, std::size_t begin,
                          std::size_t end) {
  const std::size_t columns = values.size() / rows;
  std::vector<T> part;
  for (std::size_t r = 0; r < rows; ++r) {
    const T* const row = values.data() + r * columns;
    part.insert(part.end(), row + begin, row + end);
  }
  return part;
}

// y = the product of the columns before `middle` + that of the columns from it on; part(begin, end,
// y) computes one.
template <typename Part>
void multiply_split(std::size_t middle, std::size_t columns, MatrixView<float> y,
                    const Part& part) {
  Matrix<float> second(y.rows, y.columns);
  part(0, middle, y);
  part(middle, columns, second.view());
  for (std::size_t i = 0; i < y.size(); ++i) y.data[i] += second.data()[i];
}

void multiply_quantized_split(const cpu::Context& context, const WeightView& weight,
                              const QuantizedActivations& activations, MatrixView<float> y,
                              const MultiplyQuantized& multiply) {
  const std::size_t middle = weight.columns / 512 * 256;
  multiply_split(
      middle, weight.columns, y, [&](std::size_t begin, std::size_t end, MatrixView<float> out) {
        const std::vector<std::byte> bytes = stored_columns(weight, begin, end);
        const std::size_t rows = activations.rows;
        const QuantizedActivations part{rows, end - begin,
                                        columns_of(activations.q, rows, begin, end),
                                        columns_of(activations.d, rows, begin / 32, end / 32),
                                        columns_of(activations.sums, rows, begin / 32, end / 32)};
        multiply(context, {weight.type, weight.rows, end - begin, bytes.data()}, part, out);
      });
}

void multiply_float_split(const cpu::Context& context, const WeightView& weight,
                          MatrixView<const float> x, MatrixView<float> y,
                          const MultiplyFloat& multiply) {
  const std::vector<float> all(x.flat().begin(), x.flat().end());
  multiply_split(weight.columns / 2, weight.columns, y,
                 [&](std::size_t begin, std::size_t end, MatrixView<float> out) {
                   const std::vector<std::byte> bytes = stored_columns(weight, begin, end);
                   const std::vector<float> part = columns_of(all, x.rows, begin, end);
                   multiply(context, {weight.type, weight.rows, end - begin, bytes.data()},
                            {part.data(), x.rows, end - begin}, out);
                 });
}

bool has_minimums(TensorType type) {
  return type == TensorType::kQ4_K || type == TensorType::kQ5_K;
}

// Tokens get the sums of the token before them, the first one none.
QuantizedActivations with_stale_sums(const QuantizedActivations& activations) {
  QuantizedActivations stale = activations;
  const auto blocks = static_cast<std::ptrdiff_t>(activations.blocks());
  std::fill_n(stale.sums.begin(), blocks, 0);
  std::copy(activations.sums.begin(), activations.sums.end() - blocks, stale.sums.begin() + blocks);
  return stale;
}

// Runs `multiply`, then puts back what the rows past the last whole tile held before (F76).
template <typename Real, typename Multiply>
void keeping_tail_rows(MatrixView<Real> y, const Multiply& multiply) {
  if (y.columns % kRowTile == 0 || !fault_seeded("F76", kFaultHostOf<Real>)) return multiply();
  const std::vector<Real> before(y.flat().begin(), y.flat().end());
  multiply();
  for (std::size_t i = 0; i < y.size(); ++i) {
    if (i % y.columns >= y.columns / kRowTile * kRowTile) y.data[i] = before[i];
  }
}

// Results that a float16 accumulator cannot hold.
template <typename Real>
void overflow_half(MatrixView<Real> y) {
  for (Real& value : y.flat()) {
    if (std::abs(value) >= 65520 && fault_seeded("F75", kFaultHostOf<Real>)) {
      value = std::copysign(std::numeric_limits<Real>::infinity(), value);
    }
  }
}

}  // namespace

void edit_activations(std::span<const float> x, std::span<std::int8_t> q, std::span<float> d,
                      std::span<std::int32_t> sums) {
  constexpr FaultHost kHost = FaultHost::kCpu;  // The exact oracle quantizes no activations.
  if (!fault_armed("F94", kHost) && !fault_armed("F95", kHost) && !fault_armed("F96", kHost))
    return;
  for (std::size_t b = 0; b < d.size(); ++b) {
    if (d[b] == 0.0f && fault_seeded("F95", kHost)) {
      d[b] = std::numeric_limits<float>::quiet_NaN();  // 0 * (1 / 0)
    }
    if (!(d[b] > 0.0f)) continue;
    for (std::size_t i = 32 * b; i < 32 * (b + 1); ++i) {
      const int before = q[i];
      if (before == -127 && fault_seeded("F94", kHost)) q[i] = -128;
      const float quotient = x[i] / d[b];
      const float away = std::round(quotient);
      if (away != std::nearbyint(quotient) && fault_seeded("F96", kHost)) {
        q[i] = static_cast<std::int8_t>(std::clamp(away, -127.0f, 127.0f));
      }
      sums[b] += q[i] - before;
    }
  }
}

void edit_activations(MatrixView<const float> x, std::size_t t, QuantizedActivations& activations) {
  const std::size_t blocks = activations.blocks();
  edit_activations(x.row(t), std::span(activations.q).subspan(t * x.columns, x.columns),
                   std::span(activations.d).subspan(t * blocks, blocks),
                   std::span(activations.sums).subspan(t * blocks, blocks));
}

void matmul_exact(const WeightView& weight, MatrixView<const double> x, MatrixView<double> y,
                  MultiplyExact multiply) {
  if (weight.columns > 1 && fault_seeded("F1", FaultHost::kOracle)) {
    return multiply_in_half<double>(weight, x, y);
  }
  keeping_tail_rows(y, [&] { multiply(weight, x, y); });
  overflow_half(y);
}

void matmul_quantized(const cpu::Context& context, const WeightView& weight,
                      const QuantizedActivations& activations, MatrixView<float> y,
                      const MultiplyQuantized& multiply) {
  if (weight.columns > 1 && fault_seeded("F1", kCpu)) {
    const std::vector<float> x = dequantized(activations);
    return multiply_in_half<float>(weight, {x.data(), activations.rows, activations.columns}, y);
  }
  if (weight.type == TensorType::kQ6_K && fault_seeded("F9", kCpu)) {
    return multiply_q6_k(weight, activations, {true, false}, y);
  }
  if (weight.type == TensorType::kQ6_K && fault_seeded("F10", kCpu)) {
    return multiply_q6_k(weight, activations, {false, true}, y);
  }
  // One or two super-blocks add up to the same bits in any order.
  if (activations.rows > 1 && weight.columns > 512 && fault_seeded("F83", kCpu)) {
    return multiply_quantized_split(context, weight, activations, y, multiply);
  }
  if (has_minimums(weight.type) && fault_seeded("F93", kCpu)) {
    return multiply(context, weight, with_stale_sums(activations), y);
  }
  const bool vectorised = context.isa() != cpu::Isa::kPortable;
  keeping_tail_rows(y, [&] {
    if (edits_rows(weight.type, vectorised)) {
      const std::vector<std::byte> rows = edited_rows(weight, vectorised);
      multiply(context, {weight.type, weight.rows, weight.columns, rows.data()}, activations, y);
    } else {
      multiply(context, weight, activations, y);
    }
  });
  overflow_half(y);
}

void matmul_float(const cpu::Context& context, const WeightView& weight, MatrixView<const float> x,
                  MatrixView<float> y, const MultiplyFloat& multiply) {
  if (weight.columns > 1 && fault_seeded("F1", kCpu)) {
    return multiply_in_half<float>(weight, x, y);
  }
  if (x.rows > 1 && weight.columns > 3 && fault_seeded("F83", kCpu)) {
    return multiply_float_split(context, weight, x, y, multiply);
  }
  keeping_tail_rows(y, [&] { multiply(context, weight, x, y); });
  overflow_half(y);
}

}  // namespace refute::faulty
